# frozen_string_literal: true

module SidekiqBridge
  module Sidecar
    # Jobs by status and the seconds they ran, since this process started.
    class Counters
      STATUSES = %w[done failed interrupted shutdown refused].freeze

      def initialize
        @lock = Mutex.new
        @jobs = STATUSES.to_h { |status| [status, 0] }
        @run_seconds = 0.0
      end

      def count(outcome, duration_ms)
        @lock.synchronize do
          @jobs[outcome.status] += 1
          @run_seconds += duration_ms / 1000.0
        end
      end

      def to_h
        @lock.synchronize { {"jobs" => @jobs.dup, "run_seconds" => @run_seconds.round(6)} }
      end
    end
  end
end
