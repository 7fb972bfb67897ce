# frozen_string_literal: true

require "sidekiq"
require "sidekiq_bridge/limits/process"

module SidekiqBridge
  module Limits
    # Server middleware around all other: a job takes its places, or waits in the line of a limit that is full.
    class Middleware
      def call(_instance, job, queue)
        gates = Limits.gates.of(job, queue)
        return yield if gates.empty?
        places = Process.current.take(gates, job, queue)
        return uncount unless places
        begin
          yield
        ensure
          Process.current.free(places)
        end
      end

      private

      # Sidekiq counts what it fetched as processed. A job that waits has not been processed.
      def uncount
        ::Sidekiq::Processor::PROCESSED.incr(-1)
        nil
      end
    end
  end
end
