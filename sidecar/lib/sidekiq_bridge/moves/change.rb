# frozen_string_literal: true

require "json"
require "sidekiq"
require "sidekiq/api"
require "sidekiq_bridge/moves/reader"
require "sidekiq_bridge/scripts"

module SidekiqBridge
  module Moves
    # Changes the move of one class, unless another process has changed it at the same moment.
    class Change
      FRESH = {"percent" => 0.0, "shadow" => 0.0, "guard" => true, "since_ms" => 0, "changed_ms" => 0, "is_back" => false, "reason" => "", "is_finished" => false}.freeze

      def initialize(job_class)
        @job_class = job_class.to_s.delete_prefix("::")
      end

      def percent(number)
        value = Float(number, exception: false) if number.is_a?(Numeric) || number.is_a?(String)
        raise Refused, "#{number} is not a number from 0 to 100" unless value && value >= 0 && value <= 100
        raise Refused, "no running worker has a native task for #{@job_class}" unless value.zero? || native?
        write("percent" => value.round(2), "is_back" => false, "reason" => "")
      end

      def back = write("percent" => 0.0, "shadow" => 0.0, "is_back" => true, "reason" => "")

      private

      def native? = ::Sidekiq::ProcessSet.new(false).any? { |process| Array(process["bridge_python"]).include?(@job_class) }

      def write(changes)
        before = ::Sidekiq.redis { |redis| redis.call("HGET", KEY, @job_class) }.to_s
        after = JSON.generate(changed(before.empty? ? FRESH : FRESH.merge(parsed(before)), changes))
        return if Scripts.call("moves_change", [KEY], [@job_class, before, after]) == 1
        raise Refused, "another command changed the move of #{@job_class} at the same moment"
      end

      # The counts begin at zero when a class leaves Ruby again, as in bridge/moves/move.py.
      def changed(move, changes)
        now = (now_in_redis * 1000).to_i
        begins = move["since_ms"].to_i.zero? || (move["is_back"] && !changes["is_back"])
        move.merge(changes, "changed_ms" => now, "since_ms" => begins ? now : move["since_ms"])
      end

      def now_in_redis
        seconds, micros = ::Sidekiq.redis { |redis| redis.call("TIME") }
        seconds.to_i + micros.to_i / 1_000_000.0
      end

      def parsed(raw)
        found = JSON.parse(raw)
        (found.is_a?(Hash) && found["is_finished"] != true) ? found : {}
      rescue JSON::ParserError
        {}
      end
    end
  end
end
