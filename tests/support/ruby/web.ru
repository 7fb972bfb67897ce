# frozen_string_literal: true

# Sidekiq's Web UI as a team would mount it, for a real browser.

require_relative "jobs"
require "sidekiq/api"
require "sidekiq/web"
$LOAD_PATH.unshift(File.expand_path("../../../sidecar/lib", __dir__))
require "sidekiq-bridge/web"
begin
  require "rack/session" # Rack 3
rescue LoadError
  require "rack/session/cookie"
end

use Rack::Session::Cookie, secret: "s" * 64, same_site: true, max_age: 86_400
run Sidekiq::Web
