# frozen_string_literal: true

require "json"
require "sidekiq"
require "sidekiq_bridge/moves/counts"

module SidekiqBridge
  module Moves
    KEY = "bridge:moves"
    NONSENSE = "its field in bridge:moves makes no sense"

    # One class that moves. Times are Time objects; `python` and `ruby` are Sides.
    Row = Struct.new(:job_class, :percent, :shadow, :guard, :back, :reason, :since, :changed, :python, :ruby, :shadow_runs, :shadow_differences) do
      alias_method :back?, :back
    end

    # Reads moves over Sidekiq's own connections. Any client can write there: a field that makes no sense holds its class in
    # Ruby, as bridge/moves/store.py says.
    class Reader
      def rows
        hash(KEY).sort.filter_map { |name, raw| row(name, raw) }
      end

      def differences(job_class)
        found = ::Sidekiq.redis { |redis| redis.call("LRANGE", "#{KEY}:differences:#{job_class}", 0, -1) }
        found.filter_map { |raw| object(raw) }
      end

      private

      def row(name, raw)
        said = object(raw)
        return if said && said["is_finished"] == true
        said = {"is_back" => true, "reason" => NONSENSE} unless said && plausible?(said)
        since = said["since_ms"].to_i
        counts = Counts.new(hash("#{KEY}:runs:#{since}:#{name}"))
        Row.new(name, said["percent"].to_f, said["shadow"].to_f, said["guard"] != false, said["is_back"] == true, said["reason"].to_s,
          time(since), time(said["changed_ms"].to_i), counts.side("python"), counts.side("ruby"), counts.number("shadow|runs"), counts.number("shadow|differences"))
      end

      def plausible?(said)
        said.values_at("percent", "shadow").all? { |value| value.nil? || percentage?(value) } &&
          said.values_at("since_ms", "changed_ms").all? { |value| value.nil? || (value.is_a?(Integer) && value.abs < 2**53) }
      end

      def percentage?(value)
        number = (value.is_a?(Numeric) || value.is_a?(String)) && Float(value, exception: false)
        number && number >= 0 && number <= 100
      end

      def time(ms) = Time.at(ms / 1000.0)

      def object(raw)
        found = JSON.parse(raw)
        found if found.is_a?(Hash)
      rescue JSON::ParserError, EncodingError
        nil
      end

      # redis-rb answers with an array.
      def hash(key)
        found = ::Sidekiq.redis { |redis| redis.call("HGETALL", key) }
        found.is_a?(Hash) ? found : found.each_slice(2).to_h
      rescue => e
        raise unless e.message.start_with?("WRONGTYPE")
        {}
      end
    end
  end
end
