# frozen_string_literal: true

require "digest/sha1"

module SidekiqBridge
  module Limits
    # The part of a payload by which a limit counts, and that value as text. bridge/limits/key_path.py writes the same text.
    class KeyPath
      ALL = "all"
      MISSING = "(none)"
      LONGEST_KEY_BYTES = 100
      PATH = /\A(?:args\.\d{1,3}|cattr\.[^.\s]+|(?!args\b|cattr\b)[^.\s]+)(?:\.[^.\s]+)*\z/
      WRAPPERS = %w[ActiveJob::QueueAdapters::SidekiqAdapter::JobWrapper Sidekiq::ActiveJob::Wrapper].freeze

      attr_reader :text

      def initialize(text)
        raise ArgumentError, "#{text.inspect} is not a key path; write args.N, args.N.name, cattr.name or a field of a payload" unless PATH.match?(text)
        @text = text
        @steps = text.split(".")
      end

      # The value in this job as text; nil if the path leads nowhere.
      def key(job)
        first, *rest = @steps
        case first
        when "args" then down(arguments(job), rest)
        when "cattr" then attributes(job).filter_map { |attributes| down(attributes, rest) }.first
        else down(job, @steps)
        end
      end

      # A key of any length, as it is part of the names of keys in Redis.
      def self.bounded(text)
        bytes = text.b
        return text unless bytes.bytesize > LONGEST_KEY_BYTES || bytes.match?(/[\x00-\x1f\x7f]/n) || !text.valid_encoding?
        "sha1:#{Digest::SHA1.hexdigest(bytes)}"
      end

      private

      def arguments(job)
        args = job["args"]
        args = args.to_a if args.is_a?(Hash)
        args = args.nil? ? [] : [args] unless args.is_a?(Array)
        return args unless WRAPPERS.include?(job["class"])
        inner = args.first.is_a?(Hash) ? args.first["arguments"] : nil
        inner.is_a?(Array) ? inner : []
      end

      # CurrentAttributes: an object; since Sidekiq 8 pairs as ActiveJob serialises them.
      def attributes(job)
        job.filter_map do |name, value|
          next unless name == "cattr" || name.start_with?("cattr_")
          case value
          when Hash then value
          when Array then value.select { |pair| pair.is_a?(Array) && pair.size == 2 }.to_h { |key, each| [symbol(key), each] }
          end
        end
      end

      # ActiveJob serialises a symbol as an object.
      def symbol(value)
        found = value.is_a?(Hash) ? value["value"] : value
        found.is_a?(String) ? found : nil
      end

      def down(value, steps)
        steps.each do |step|
          if value.is_a?(Hash) && value.key?(step)
            value = value[step]
          elsif value.is_a?(Array) && step.match?(/\A\d+\z/) && step.to_i < value.size
            value = value[step.to_i]
          else
            return nil
          end
        end
        KeyPath.bounded(spelled(value))
      end

      def spelled(value)
        case value
        when String then value
        when nil then "null"
        when Float then format("%.17g", value)
        when Array then "[#{value.map { |each| spelled(each) }.join(",")}]"
        when Hash then spelled_object(value)
        else value.to_s
        end
      end

      def spelled_object(value)
        return spelled(value["_aj_globalid"]) if value.keys == ["_aj_globalid"]
        return spelled(value["value"]) if value.key?("_aj_serialized")
        "{#{value.keys.sort.map { |name| "#{name}:#{spelled(value[name])}" }.join(",")}}"
      end
    end
  end
end
