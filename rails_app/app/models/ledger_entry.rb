# frozen_string_literal: true

# One line of the ledger: one event of a job. Tests and the demo count runs
# here, so every write is one statement of its own, visible at once to other processes.
#
# `job_key` is the same for all runs of one job: ActiveJob's id, which its retries keep
# while each of them has a jid of its own, else the jid.
class LedgerEntry < ApplicationRecord
  self.table_name = "ledger"

  def self.record(event, job, note: nil)
    active_job = active_job_in(job)
    insert!({
      event: event, note: note, jid: job["jid"], job_key: active_job["job_id"] || job["jid"],
      job_class: job["wrapped"] || job["class"], queue: job["queue"],
      args: JSON.generate(active_job["arguments"] || job["args"]),
      runner: "ruby", pid: Process.pid, at: Time.now.to_f
    })
  end

  def self.runs(jid, event = "started")
    where(jid: jid, event: event).count
  end

  def self.active_job_in(job)
    first = job["wrapped"] && job["args"].first
    first.is_a?(Hash) ? first : {}
  end
  private_class_method :active_job_in
end
