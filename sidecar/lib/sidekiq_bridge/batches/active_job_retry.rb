# frozen_string_literal: true

require "sidekiq_bridge/batches/batch"
require "sidekiq_bridge/batches/block"

module SidekiqBridge
  module Batches
    # ActiveJob's retry_on pushes a new Sidekiq job with the same job_id. It belongs to the batch of the run that pushes it, which would
    # end without it.
    module ActiveJobRetry
      module_function

      # A block for the push; nil for any other push.
      def block(payload)
        running = Thread.current[Batch::RUNNING]
        return unless running && (id = job_id(payload)) && id == job_id(running)
        Block.new(running[Block::FIELD], adder: running["jid"].to_s)
      end

      def job_id(payload)
        inner = payload["args"]&.first
        inner["job_id"] if payload["wrapped"] && inner.is_a?(Hash)
      end
    end
  end
end
