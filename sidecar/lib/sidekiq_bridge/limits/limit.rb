# frozen_string_literal: true

require "sidekiq_bridge/limits/key_path"

module SidekiqBridge
  module Limits
    # At most `concurrency` jobs at once, and `interval` seconds between two starts, for each key.
    # bridge/limits/declaration.py has the same rules and names.
    Limit = Struct.new(:name, :job_class, :queue, :concurrency, :rate, :interval, :starts, :key, keyword_init: true) do
      # As limit_gate.lua takes them, behind the name of the line.
      def script_args
        return [concurrency.to_s, "", "0 0"] unless interval
        early = [interval * Limit::CATCH_UP_SHARE, Limit::CATCH_UP_SECONDS].max
        noted = starts + (early / interval - 1e-9).ceil
        noted = 0 if early >= Limit::LATE_SECONDS || noted > Limit::MOST_NOTED
        [concurrency.to_s, interval.to_s, "#{early} #{noted}"]
      end

      def covers?(name, queue_name) = [nil, name].include?(job_class) && [nil, queue_name].include?(queue)

      # Whether each job that counts here counts there too, and for one key of that limit only.
      def within?(other)
        !equal?(other) && [nil, job_class].include?(other.job_class) && [nil, queue].include?(other.queue) &&
          [nil, key&.text].include?(other.key&.text)
      end

      # How a job that waits at the wider limit `other` keeps a place here (limit_enter.lua).
      def keeps_place(other)
        return "0" if equal?(other)
        within?(other) ? "1" : "2"
      end

      # Sorts the limits of a job, narrow ones last. A limit within another one has more of class, queue and key; of others a rate is
      # wide, and so is a queue. bridge/limits/declaration.py has the same order.
      def narrowness = [[job_class, queue, key].compact.size, rate ? 0 : 1, job_class ? 1 : 0, -(concurrency || 0)]

      def to_h
        {"name" => name, "class" => job_class, "queue" => queue, "concurrency" => concurrency, "rate" => rate, "key" => key&.text}.compact
      end
    end

    class Limit
      FIELDS = %w[name class queue concurrency rate key].freeze
      OWN_FIELDS = %w[concurrency rate key].freeze
      EXAMPLE = '{"class": "SyncJob", "concurrency": 3}'
      LARGEST = 1_000_000
      CATCH_UP_SHARE = 0.8
      CATCH_UP_SECONDS = 0.05
      LATE_SECONDS = 2.0
      MOST_NOTED = 1000
      LONGEST_INTERVAL_SECONDS = 86_400 * 366
      QUEUE_NAME = /\A[\w:.-]+\z/
      RATE = %r{\A\s*(\d{1,9})\s*/\s*(\d{0,6})\s*([a-z]+)\s*\z}
      UNITS = {"s" => 1, "sec" => 1, "second" => 1, "m" => 60, "min" => 60, "minute" => 60, "h" => 3600, "hour" => 3600, "d" => 86_400, "day" => 86_400}.freeze

      class << self
        # A limit of a list of limits.
        def declared(entry)
          raise ArgumentError, "a limit is an object, this is #{shown(entry)}; write for example #{EXAMPLE}" unless entry.is_a?(Hash)
          entry = entry.transform_keys(&:to_s)
          refuse_unknown(entry, FIELDS)
          job_class, queue = text(entry, "class"), text(entry, "queue")
          raise ArgumentError, "class or queue is missing; write for example #{EXAMPLE} or {\"queue\": \"mailers\", ...}" unless job_class || queue
          raise ArgumentError, "#{queue.inspect} is not a queue's name (letters, digits and _ : . -)" if queue && !QUEUE_NAME.match?(queue)
          made(text(entry, "name"), job_class, queue, entry)
        end

        # A limit that a job of this class brings along as `bridge_limit`.
        def own(entry, job_class)
          raise ArgumentError, "bridge_limit is an object, this is #{shown(entry)}; write for example {\"concurrency\": 3}" unless entry.is_a?(Hash)
          entry = entry.transform_keys(&:to_s)
          refuse_unknown(entry, OWN_FIELDS)
          made(nil, job_class, nil, entry)
        end

        # The number, and seconds between two starts: 10 and 0.1 for "10/s".
        def pace_of(rate)
          match = rate.is_a?(String) ? RATE.match(rate.downcase) : nil
          unit = match && (UNITS[match[3]] || UNITS[match[3][/\A([a-z]{3,})s\z/, 1]]) # "ms" is not minutes
          raise ArgumentError, "#{shown(rate)} is not a rate; write for example \"10/s\", \"100/m\" or \"1/5s\"" unless unit && match[1].to_i.positive? && !match[2].match?(/\A0+\z/)
          seconds = unit * (match[2].empty? ? 1 : match[2].to_i) / match[1].to_f
          raise ArgumentError, "#{shown(rate)} is less than one start a year; pause the queue instead" if seconds > LONGEST_INTERVAL_SECONDS
          [match[1].to_i, seconds]
        end

        private

        def made(name, job_class, queue, entry)
          concurrency, rate, path = entry["concurrency"], entry["rate"], text(entry, "key")
          raise ArgumentError, "concurrency or rate is missing; write for example #{EXAMPLE}" if concurrency.nil? && rate.nil?
          key = path && KeyPath.new(path)
          named = [job_class, queue && "queue=#{queue}"].compact.join(",") + (key ? "/#{key.text}" : "")
          starts, interval = rate && pace_of(rate)
          new(name: name || named, job_class: job_class, queue: queue, concurrency: whole(concurrency),
            rate: rate, interval: interval, starts: starts, key: key)
        end

        def refuse_unknown(entry, known)
          name = entry.keys.find { |each| !known.include?(each) }
          raise ArgumentError, "#{name.inspect} is not a field of a limit; known are #{known.join(", ")}" if name
        end

        def text(entry, field)
          value = entry[field]
          return if value.nil?
          raise ArgumentError, "#{field} must be a text, this is #{shown(value)}" unless value.is_a?(String) && value.match?(/\A[[:print:]]*[[:graph:]][[:print:]]*\z/)
          value.strip
        end

        def whole(value)
          return value if value.nil? || (value.is_a?(Integer) && value.between?(1, LARGEST))
          raise ArgumentError, "concurrency must be a whole number from 1, this is #{shown(value)}; to let no job of a queue run, pause the queue"
        end

        def shown(value) = value.inspect[0, 60]
      end
    end
  end
end
