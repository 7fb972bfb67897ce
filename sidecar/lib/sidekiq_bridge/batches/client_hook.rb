# frozen_string_literal: true

require "sidekiq_bridge/batches/block"

module SidekiqBridge
  module Batches
    # Prepended to Sidekiq::Client: inside of a batch's block, the batch takes the jobs that client middleware has let through.
    module ClientHook
      # Sidekiq's client that waits for a transaction's end asks this, and pushes at once inside of a batch.
      def batching? = Block.current ? true : (defined?(super) ? super : false)

      private

      def raw_push(payloads)
        block = Block.current
        return super unless block
        block.add(payloads)
        true
      end
    end
  end
end
