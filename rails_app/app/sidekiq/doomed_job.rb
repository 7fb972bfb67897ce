# frozen_string_literal: true

# Always fails: one retry, then the dead set.
class DoomedJob
  include Sidekiq::Job
  sidekiq_options retry: 1
  sidekiq_retry_in { 1 }

  def perform(reason = "always")
    raise ArgumentError, "this job fails: #{reason}"
  end
end
