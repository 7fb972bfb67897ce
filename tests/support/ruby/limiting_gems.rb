# frozen_string_literal: true

# An app with gems that limit its jobs.

require_relative "jobs"
require_relative "../gems/sidekiq-throttled"
require_relative "../gems/sidekiq-limit_fetch"

class ThrottledJob < SleepJob
  include Sidekiq::Throttled::Job
  sidekiq_throttle concurrency: {limit: 2}
end

class PatientThrottledJob < SleepJob
  include Sidekiq::Throttled::Job
  sidekiq_throttle concurrency: {limit: 1}, requeue: {with: :schedule, to: :low}
end
