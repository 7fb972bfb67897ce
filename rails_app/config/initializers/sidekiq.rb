# frozen_string_literal: true

require "sidekiq/middleware/current_attributes"
require_relative "../../lib/sidekiq_middleware/record_runs"
require_relative "../../lib/sidekiq_middleware/stamp_origin"

# redis-rb 4.8 warns several times a second about Sidekiq 6's calls, which the app cannot change.
Redis.silence_deprecations = true if defined?(Redis) && Redis.respond_to?(:silence_deprecations=)

redis_url = ENV.fetch("REDIS_URL", "redis://127.0.0.1:6379/0")

Sidekiq.configure_client do |config|
  config.redis = {url: redis_url}
  config.client_middleware { |chain| chain.add SidekiqMiddleware::StampOrigin }
end

Sidekiq.configure_server do |config|
  config.redis = {url: redis_url}
  config.client_middleware { |chain| chain.add SidekiqMiddleware::StampOrigin }
  config.server_middleware { |chain| chain.add SidekiqMiddleware::RecordRuns }

  # Sidekiq 7.1.5 added the third argument, older versions pass two.
  config.error_handlers << lambda do |error, context, _config = nil|
    LedgerEntry.record("error_reported", context[:job], note: "#{error.class}: #{error.message}") if context[:job]
  end
  config.death_handlers << ->(job, error) { LedgerEntry.record("died", job, note: "#{error.class}: #{error.message}") }

  %i[startup quiet shutdown].each do |event|
    config.on(event) { Rails.logger.info("sidekiq lifecycle: #{event} (pid #{Process.pid})") }
  end
end

# Sidekiq before 7.0 keeps the class itself, later ones its name; autoloaded classes exist only from here on.
Rails.application.config.after_initialize do
  Sidekiq::CurrentAttributes.persist(SidekiqFeatures.current_attributes_by_name? ? "Current" : Current)
end
