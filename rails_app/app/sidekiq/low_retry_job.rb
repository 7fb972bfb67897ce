# frozen_string_literal: true

# Retries wait in a queue of their own, behind fresh work.
class LowRetryJob
  include Sidekiq::Job
  sidekiq_options retry: 3, retry_queue: "low"
  sidekiq_retry_in { 1 }

  def perform(*)
    raise "first time fails" if LedgerEntry.runs(jid) <= 1
  end
end
