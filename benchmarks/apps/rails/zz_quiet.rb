# frozen_string_literal: true

# A line for each job would be measured instead of the job.
Sidekiq.logger.level = Logger::FATAL
# The record of BenchFindJob.
Rails.application.config.after_initialize { Customer.insert({id: 1, name: "Ada", email: "ada@example.com"}) }
# The app's own middleware writes three rows for each job; it is left out for all peers alike.
Sidekiq.configure_server do |config|
  config.server_middleware { |chain| chain.remove SidekiqMiddleware::RecordRuns }
  config.error_handlers.pop
end
