# frozen_string_literal: true

ENV["RAILS_ENV"] = ENV["RACK_ENV"] = "test"
# An app's settings on this machine are not these specs' business.
%w[BRIDGE_SIDECAR_SECRET BRIDGE_SIDECAR_SECRET_FILE BRIDGE_SIDECAR_BIND BUNDLE_GEMFILE REDIS_PROVIDER].each { |name| ENV.delete(name) }

$LOAD_PATH.unshift(File.expand_path("../lib", __dir__), __dir__)

require "rspec"
require "support/redis_server"
require "support/waiting"
require "support/running"
require "support/requests"
require "support/sidecar_process"

RedisServer.start
at_exit { RedisServer.stop }

require "sidekiq_bridge/sidecar/boot/app_loader"
require "sidekiq_bridge/sidecar/settings"

FIXTURES = File.expand_path("fixtures", __dir__)
SETTINGS = SidekiqBridge::Sidecar::Settings.new({app: File.join(FIXTURES, "jobs.rb"), threads: 3, environment: "test"})
SidekiqBridge::Sidecar::AppLoader.new(SETTINGS).call
Sidekiq.logger.level = Logger::FATAL

require "sidekiq_bridge/sidecar/process/job_server"

SIDEKIQ = Gem::Version.new(Sidekiq::VERSION)

RSpec.configure do |config|
  config.disable_monkey_patching!
  config.order = :random
  config.include Waiting
  config.include Running
  config.before { Trace.clear }
  config.filter_run_excluding(sidekiq: ->(range) { !Gem::Requirement.new(*Array(range)).satisfied_by?(SIDEKIQ) })
end
