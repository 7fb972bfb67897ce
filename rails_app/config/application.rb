# frozen_string_literal: true

require_relative "boot"

require "rails"
require "active_record/railtie"
require "active_job/railtie"
require "action_controller/railtie"
require "action_mailer/railtie"
require "rails/test_unit/railtie"
require "sidekiq"
require_relative "../lib/demo_database"
require_relative "../lib/demo_secret"

# The demo application: the parts of a team's Rails app, each as small as possible.
module BridgeDemo
  class Application < Rails::Application
    config.root = File.expand_path("..", __dir__)
    config.load_defaults Rails::VERSION::STRING.to_f

    config.active_job.queue_adapter = :sidekiq
    # ActiveJob keeps the serializer's class: it must be loaded once and never again.
    config.autoload_once_paths << root.join("app/serializers").to_s
    config.session_store :cookie_store, key: "_bridge_demo"
    config.secret_key_base = DemoSecret.read(config.root)

    config.action_mailer.delivery_method = :file
    config.action_mailer.file_settings = {location: ENV.fetch("DEMO_MAIL_DIR") { config.root.join("tmp/mails") }}
    config.action_mailer.deliver_later_queue_name = "mailers"
    config.action_mailer.default_url_options = {host: "127.0.0.1"}

    config.after_initialize { DemoDatabase.prepare! }
  end
end
