# frozen_string_literal: true

# Sidekiq 7.1.3 and later retry it for a time; older versions count its retries.
class RetryForJob
  include Sidekiq::Job
  sidekiq_options retry_for: 2, retry: 2
  sidekiq_retry_in { 2 }

  def perform(*)
    raise "still not there"
  end
end
