# frozen_string_literal: true

module SidekiqMiddleware
  # Server middleware: writes into the ledger that a run started and how it ended, except
  # for classes that ask for silence with `sidekiq_options ledger: false`.
  class RecordRuns
    def call(_job_instance, job, _queue, &block)
      return yield if job["ledger"] == false

      recorded(job, &block)
    end

    private

    def recorded(job)
      LedgerEntry.record("started", job)
      result = yield
      LedgerEntry.record("finished", job)
      result
    rescue StandardError => error
      LedgerEntry.record("raised", job, note: "#{error.class}: #{error.message}")
      raise
    end
  end
end
