# frozen_string_literal: true

require "sidekiq"
require "sidekiq_bridge/batches/batch"
require "sidekiq_bridge/batches/block"
require "sidekiq_bridge/batches/calls"
require "sidekiq_bridge/stock"

module SidekiqBridge
  module Batches
    # Around all other server middleware: knows the batch of the job that runs. A process of Sidekiq also counts the run here, before
    # Sidekiq forgets the job. In a sidecar the worker counts it, in the step that settles the job.
    class ServerMiddleware
      def call(_job, payload, _queue, &block)
        bid = payload[Block::FIELD]
        return yield unless bid.is_a?(String)
        within(payload) { Stock.sidecar? ? yield : counted(bid, payload["jid"], &block) }
      end

      private

      def within(payload)
        Thread.current[Batch::RUNNING] = payload
        yield
      ensure
        Thread.current[Batch::RUNNING] = nil
      end

      # A batch that cannot be told raises: the job runs again, and is counted then.
      def counted(bid, jid)
        result = yield
      rescue Exception => e # rubocop:disable Lint/RescueException
        Calls.ended(bid, jid, "failed") unless Stock.no_end?(e)
        raise
      else
        Calls.ended(bid, jid, "done")
        result
      end
    end

    # Sidekiq calls it for a job that has no retries left, and for one that a person kills in the Web UI.
    DeathHandler = lambda do |job, _error|
      bid = job[Block::FIELD]
      Calls.ended(bid, job["jid"], "dead") if bid.is_a?(String) && !Stock.sidecar?
    end
  end
end
