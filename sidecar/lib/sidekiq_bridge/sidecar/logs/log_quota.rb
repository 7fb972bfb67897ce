# frozen_string_literal: true

module SidekiqBridge
  module Sidecar
    # Allows a number of lines each minute and counts the rest: clients cause these lines, and can cause any number.
    class LogQuota
      SECONDS = 60

      def initialize(lines, now: -> { Process.clock_gettime(Process::CLOCK_MONOTONIC) })
        @lines = lines
        @now = now
        @lock = Mutex.new
        @until = -Float::INFINITY
        @written = @left_out = 0
      end

      # Calls the block with the number of lines left out since the last one, or does not call it.
      def spend
        left_out = @lock.synchronize { take }
        yield left_out if left_out
      end

      private

      def take
        now = @now.call
        @written, @until = 0, now + SECONDS if now >= @until
        return !(@left_out += 1) if @written >= @lines
        @written += 1
        @left_out.tap { @left_out = 0 }
      end
    end
  end
end
