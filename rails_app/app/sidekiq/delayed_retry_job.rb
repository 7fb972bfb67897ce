# frozen_string_literal: true

# Its own delay grows with the count and depends on the error; any other error gets Sidekiq's curve.
class DelayedRetryJob
  include Sidekiq::Job
  sidekiq_options retry: 2

  RateLimited = Class.new(StandardError)

  sidekiq_retry_in do |count, error|
    2 * (count + 1) if error.is_a?(RateLimited)
  end

  def perform(failures = 1)
    raise RateLimited, "too many requests" if LedgerEntry.runs(jid) <= failures
  end
end
