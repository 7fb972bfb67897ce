# frozen_string_literal: true

module SidekiqBridge
  module Sidecar
    # Bounds the memory of results. A record keeps its outcome for a quarter of an hour, for a worker that asks again; results
    # of 64 KiB would take gigabytes. Beyond MOST_BYTES the oldest outcome forgets its result.
    class KeptResults
      MOST_BYTES = 16 * 1024 * 1024
      # The outcome itself, roughly.
      OVERHEAD = 200

      def initialize(most_bytes = MOST_BYTES)
        @most_bytes = most_bytes
        @lock = Mutex.new
        @kept = []
        @bytes = 0
      end

      # Returns the outcome.
      def add(outcome, bytes)
        size = bytes + OVERHEAD
        @lock.synchronize do
          @kept << [outcome, size]
          @bytes += size
          forget_oldest while @bytes > @most_bytes && @kept.size > 1
        end
        outcome
      end

      private

      def forget_oldest
        outcome, size = @kept.shift
        @bytes -= size
        outcome.forget_result
      end
    end
  end
end
