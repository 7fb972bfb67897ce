# frozen_string_literal: true

# ActiveJob's own retries: each is a new Sidekiq job with the same ActiveJob id.
class ImportJob < ApplicationJob
  Busy = Class.new(StandardError)
  retry_on Busy, wait: 1.second, attempts: 3

  def perform(failures = 1)
    raise Busy, "the other side is busy" if executions <= failures

    record("imported", "after #{executions} executions")
  end
end
