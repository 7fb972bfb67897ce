# frozen_string_literal: true

require "sidekiq/web"

# The demo listens on loopback and asks for no password. Anywhere else, protect Sidekiq's
# Web UI: every visitor can delete every job. With Devise:
#
#   authenticate(:user, ->(user) { user.admin? }) { mount Sidekiq::Web => "/sidekiq" }
#
# or with a name and a password from the environment, for this app too:
if ENV["SIDEKIQ_WEB_PASSWORD"]
  Sidekiq::Web.use(Rack::Auth::Basic) do |name, password|
    ActiveSupport::SecurityUtils.secure_compare(name, ENV.fetch("SIDEKIQ_WEB_USER", "admin")) &
      ActiveSupport::SecurityUtils.secure_compare(password, ENV.fetch("SIDEKIQ_WEB_PASSWORD"))
  end
end

Rails.application.routes.draw do
  root "demo#index"
  post "enqueue", to: "demo#enqueue"
  get "up", to: ->(_env) { [200, {"content-type" => "text/plain"}, ["ok"]] }
  mount Sidekiq::Web => "/sidekiq"
end
