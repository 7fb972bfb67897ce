# frozen_string_literal: true

# Decides on its first failure that no retry will help. Where Sidekiq cannot be told so,
# the single retry leads to the same end.
class KillJob
  include Sidekiq::Job
  sidekiq_options retry: 1
  sidekiq_retry_in { SidekiqFeatures.retry_verdicts? ? :kill : 1 }

  def perform(*)
    raise "no retry will help: straight to the dead set"
  end
end
