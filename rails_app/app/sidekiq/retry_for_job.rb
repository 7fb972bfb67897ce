# frozen_string_literal: true

# Retried for so long, not so often (Sidekiq 7.1.3); older versions go by the count.
class RetryForJob
  include Sidekiq::Job
  sidekiq_options retry_for: 2, retry: 2
  sidekiq_retry_in { 2 }

  def perform(*)
    raise "still not there"
  end
end
