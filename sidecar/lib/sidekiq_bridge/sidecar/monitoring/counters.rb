# frozen_string_literal: true

module SidekiqBridge
  module Sidecar
    # Jobs by status and the seconds they ran, and refused requests, since this process started.
    class Counters
      STATUSES = %w[done failed interrupted postponed shutdown refused].freeze
      # Every code of docs/protocol.md, so that a rate shows the first refusal; `connections` counts refused
      # connections.
      CODES = %w[connections draining internal malformed misdirected no_slot not_found protocol refused replay running signature
        superseded timestamp too_large unknown unsigned].freeze

      def initialize
        @lock = Mutex.new
        @jobs = STATUSES.to_h { |status| [status, 0] }
        @refusals = CODES.to_h { |code| [code, 0] }
        @run_seconds = 0.0
      end

      def count(outcome, duration_ms)
        @lock.synchronize do
          @jobs[outcome.status] += 1
          @run_seconds += duration_ms / 1000.0
        end
      end

      def refused(code)
        @lock.synchronize { @refusals[code] += 1 if @refusals.key?(code) }
      end

      def to_h
        @lock.synchronize { {"jobs" => @jobs.dup, "refusals" => @refusals.dup, "run_seconds" => @run_seconds.round(6)} }
      end
    end
  end
end
