# frozen_string_literal: true

require "sidekiq_bridge/batches/continued"
require "sidekiq_bridge/batches/block"
require "sidekiq_bridge/batches/calls"

module SidekiqBridge
  module Batches
    # Prepended to Sidekiq::Client: inside of a batch's block, the batch takes the jobs that client middleware has let through.
    module ClientHook
      # Sidekiq's client that waits for a transaction's end asks this, and pushes at once inside of a batch.
      def batching? = Block.current ? true : (defined?(super) ? super : false)

      private

      def raw_push(payloads)
        if (block = Block.current)
          block.add(payloads)
        elsif (block = Continued.block(payloads.first))
          block.add(payloads)
          begin
            block.write
          rescue BatchRefused # the batch is gone: the job must run all the same
            return super
          end
        else
          return super
        end
        true
      end
    end
  end
end
