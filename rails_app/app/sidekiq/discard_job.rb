# frozen_string_literal: true

# Discards itself on its first failure.
class DiscardJob
  include Sidekiq::Job
  sidekiq_options retry: 1, dead: false
  sidekiq_retry_in { SidekiqFeatures.retry_verdicts? ? :discard : 1 }

  def perform(*)
    raise "this job is out of date"
  end
end
