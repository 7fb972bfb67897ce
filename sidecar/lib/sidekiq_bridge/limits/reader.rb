# frozen_string_literal: true

require "json"
require "sidekiq"
require "sidekiq_bridge/limits/key_path"

module SidekiqBridge
  module Limits
    # One limit for one key. `in_use` and `waiting` are numbers of jobs; `rate` is as declared. A limit with keys also has a row of its
    # own, without numbers: its key is "each <path>".
    Row = Struct.new(:name, :job_class, :queue, :concurrency, :rate, :key, :in_use, :waiting)

    # Reads limits and their lines over Sidekiq's own connections, for the Web tab.
    class Reader
      DECLARED = "bridge:limits"
      LINES = "bridge:waiting"

      # Each declared limit, and the lines where jobs wait, at most `most` of them.
      def rows(most = 50)
        limits = declared
        keyed, plain = limits.partition { |_, limit| limit["key"] }
        lines = (plain.map { |name, _| "#{name}:#{KeyPath::ALL}" } + waiting_lines(most)).uniq
        (keyed.map { |name, limit| declaration(name, limit, "each #{limit["key"]}", nil, nil) } + lines.map { |line| row(line, limits) }).sort_by { |row| [row.name, row.key] }
      end

      private

      # Name of a limit to its declaration, as any process has declared it.
      def declared
        values = ::Sidekiq.redis { |redis| redis.call("HVALS", DECLARED) }
        found = values.flat_map { |raw| parsed(raw) }.grep(Hash)
        found.filter_map { |one| [one["name"].to_s, one] if one["name"] }.sort_by(&:first).to_h
      end

      def waiting_lines(most) = ::Sidekiq.redis { |redis| redis.call("ZRANGE", LINES, 0, most - 1) }

      def row(line, limits)
        name = limits.keys.select { |each| line.start_with?("#{each}:") }.max_by(&:size)
        limit = name ? limits[name] : {}
        name ||= line.rpartition(":").first
        declaration(name, limit, line.delete_prefix("#{name}:"), *counts(line))
      end

      def declaration(name, limit, key, in_use, waiting)
        Row.new(name, limit["class"], limit["queue"], limit["concurrency"], limit["rate"], key, in_use, waiting)
      end

      # A place whose time is over does not count.
      def counts(line)
        ::Sidekiq.redis do |redis|
          seconds, micros = redis.call("TIME")
          now = "(#{seconds}.#{micros.to_s.rjust(6, "0")}"
          [redis.call("ZCOUNT", "bridge:places:#{line}", now, "+inf"), redis.call("ZCARD", "bridge:waiting:#{line}")]
        end
      end

      def parsed(raw)
        found = JSON.parse(raw)
        found.is_a?(Array) ? found : []
      rescue JSON::ParserError
        []
      end
    end
  end
end
