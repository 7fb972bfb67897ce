# frozen_string_literal: true

module SidekiqBridge
  module Limits
    # The next start of each rate that this process uses. Threads that ask for places and the one that moves the lines set it side by
    # side, so the answer that comes last is not always the newest. A timer that has been set is moved to an earlier time only, and one
    # that ends too early costs one look at its line. bridge/limits/next_starts.py does the same.
    class NextStarts
      def initialize
        @timers = {}
        @lock = Mutex.new
      end

      # `at`: Redis TIME in s. Whether one of these gates has a rate.
      def set(gates, at)
        rates = gates.select { |gate| gate.limit.rate }
        @lock.synchronize do
          rates.each { |gate| @timers[gate.line] = [at, gate] unless @timers[gate.line]&.then { |before, _| before <= at } }
        end
        rates.any?
      end

      # The gates whose time has come, once.
      def due(now)
        @lock.synchronize do
          found = @timers.select { |_, (at, _)| at <= now }
          found.each_key { |line| @timers.delete(line) }
          found.map { |_, (_, gate)| gate }
        end
      end

      # The Redis TIME in s of the first one, or nil.
      def first = @lock.synchronize { @timers.each_value.map(&:first).min }
    end
  end
end
