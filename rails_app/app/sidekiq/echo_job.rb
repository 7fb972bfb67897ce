# frozen_string_literal: true

# Writes down the arguments exactly as perform got them.
class EchoJob
  include Sidekiq::Job

  def perform(*args)
    LedgerEntry.record("echo", {"jid" => jid, "class" => self.class.name, "args" => args})
  end
end
