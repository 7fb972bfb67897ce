# frozen_string_literal: true

module SidekiqBridge
  module Moves
    # The runs of one class on one side since its counts began, as the workers have written them.
    Side = Struct.new(:runs, :failures, :p50_ms, :p95_ms) do
      def failure_rate = runs.zero? ? 0.0 : failures.fdiv(runs)
    end

    # Reads the counts in `bridge:moves:runs:<since>:<class>`.
    class Counts
      # As bridge/moves/runs.py: a bucket of run times is a tenth wider than the one below it.
      SHORTEST_MS = 0.01
      STEP = Math.log(1.1)

      def initialize(fields)
        @fields = fields
      end

      def side(name)
        Side.new(number("#{name}|runs"), number("#{name}|failures"), percentile(name, 0.5), percentile(name, 0.95))
      end

      def number(field) = @fields[field].to_i

      private

      def percentile(name, share)
        times = @fields.filter_map { |field, count| [$~[1].to_i, count.to_i] if field =~ /\A#{name}\|(\d+)\z/ }.sort
        wanted = share * times.sum(&:last)
        bucket, = times.find { |_, count| (wanted -= count) <= 0 }
        bucket && (SHORTEST_MS * Math.exp((bucket + 0.5) * STEP))
      end
    end
  end
end
