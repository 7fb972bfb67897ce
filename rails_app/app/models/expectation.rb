# frozen_string_literal: true

# The expected end of a demo job: "done", "dead" (in the dead set), "dropped" (failed and gone)
# or "scheduled" (waits longer than the demo lasts).
class Expectation < ApplicationRecord
  def self.add(outcome, job_class, *job_keys)
    rows = job_keys.map { |key| {job_key: key, job_class: job_class.to_s, outcome: outcome, at: Time.now.to_f} }
    insert_all!(rows)
    job_keys.size
  end
end
