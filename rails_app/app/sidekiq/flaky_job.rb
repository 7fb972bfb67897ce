# frozen_string_literal: true

# Fails the given number of times, then succeeds.
class FlakyJob
  include Sidekiq::Job
  sidekiq_retry_in { 1 }

  Unlucky = Class.new(StandardError)

  def perform(failures = 1)
    run = LedgerEntry.runs(jid)
    raise Unlucky, "run #{run} of #{failures + 1} fails on purpose" if run <= failures
  end
end
