# frozen_string_literal: true

require "sidekiq_bridge/batches/batch"
require "sidekiq_bridge/batches/block"

module SidekiqBridge
  module Batches
    # A job that goes on as another Sidekiq job, which it pushes itself: ActiveJob's retry_on, job-iteration and continuations, with the
    # same job_id; sidekiq-iteration, with its cursor as the last argument. The new job belongs to the batch of the run that pushes it,
    # which would end without it.
    module Continued
      CURSOR = "sidekiq_iteration"

      module_function

      # A block for the push; nil for any other push.
      def block(payload)
        running = Thread.current[Batch::RUNNING]
        return unless running && (same_job?(payload, running) || iteration?(payload, running))
        Block.new(running[Block::FIELD], adder: running["jid"].to_s)
      end

      def same_job?(payload, running) = (id = job_id(payload)) && id == job_id(running)

      def iteration?(payload, running)
        last = payload["args"]&.last
        payload["class"] == running["class"] && last.is_a?(Hash) && last.key?(CURSOR)
      end

      def job_id(payload)
        inner = payload["args"]&.first
        inner["job_id"] if payload["wrapped"] && inner.is_a?(Hash)
      end
    end
  end
end
