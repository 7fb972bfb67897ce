# frozen_string_literal: true

# Writes down the tenant that was current at its push.
class TenantJob
  include Sidekiq::Job

  def perform
    LedgerEntry.record("tenant", {"jid" => jid, "class" => self.class.name, "args" => []}, note: Current.tenant.to_s)
  end
end
