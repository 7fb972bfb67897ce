# frozen_string_literal: true

# Writes "exhausted" to the ledger after its last failed attempt.
class ExhaustedJob
  include Sidekiq::Job
  sidekiq_options retry: 0

  sidekiq_retries_exhausted do |job, error|
    LedgerEntry.record("exhausted", job, note: error.message)
  end

  def perform(*)
    raise "out of attempts"
  end
end
