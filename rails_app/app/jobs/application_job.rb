# frozen_string_literal: true

class ApplicationJob < ActiveJob::Base
  private

  def record(event, note)
    LedgerEntry.record(event, {
      "jid" => provider_job_id, "wrapped" => self.class.name, "queue" => queue_name,
      "args" => [{"job_id" => job_id, "arguments" => []}]
    }, note: note.to_s)
  end
end
