# frozen_string_literal: true

# An app with periodic jobs by sidekiq-cron.

require_relative "jobs"
require "sidekiq-cron"

Sidekiq.configure_server do |config|
  configure(config, :cron_poll_interval, "TEST_CRON_INTERVAL")
  Sidekiq::Cron::Job.create(name: "tick", cron: "*/2 * * * * *", class: "EchoJob", args: ["tick"])
  Sidekiq::Cron::Job.create(name: "python", cron: "*/2 * * * * *", class: "NativeEchoJob", args: ["tock"])
end
