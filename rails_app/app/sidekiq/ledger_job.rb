# frozen_string_literal: true

# A write to the database: exactly one "booked" line per run.
class LedgerJob
  include Sidekiq::Job
  sidekiq_options queue: "critical"

  def perform(account, cents)
    LedgerEntry.record("booked", {"jid" => jid, "class" => self.class.name, "args" => [account, cents]})
  end
end
