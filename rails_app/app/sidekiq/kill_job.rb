# frozen_string_literal: true

# Refuses retries on its first failure. A Sidekiq without that answer retries it once,
# with the same end.
class KillJob
  include Sidekiq::Job
  sidekiq_options retry: 1
  sidekiq_retry_in { SidekiqFeatures.retry_verdicts? ? :kill : 1 }

  def perform(*)
    raise "no retry will help: straight to the dead set"
  end
end
