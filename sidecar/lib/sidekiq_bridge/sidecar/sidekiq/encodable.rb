# frozen_string_literal: true

require "json"

module SidekiqBridge
  module Sidecar
    # Turns what a job's hooks leave in its hash into what JSON and the worker can hold. Text that is not UTF-8 keeps
    # its readable part, NaN becomes "NaN", and an object becomes its own JSON or its text. Nothing here raises.
    class Encodable
      # The worker refuses deeper values.
      DEEPEST = 90
      # A value with more leaves is cut: a structure may contain itself.
      MOST_VALUES = 200_000
      # Python reads no longer integer from JSON.
      LARGEST_BITS = 13_000
      CUT = "..."

      def self.of(value) = new.of(value)

      def self.text(value)
        string = String.new(value.is_a?(String) ? value : value.to_s)
        return string if string.encoding == Encoding::UTF_8 && string.valid_encoding?
        return string.force_encoding(Encoding::UTF_8).scrub if string.encoding == Encoding::BINARY
        string.encode(Encoding::UTF_8, invalid: :replace, undef: :replace).scrub
      rescue Exception # rubocop:disable Lint/RescueException
        "(a value that has no text)"
      end

      def initialize
        @left = MOST_VALUES
      end

      def of(value, depth = 0)
        @left -= 1
        return CUT if depth > DEEPEST || @left.negative?
        case value
        when nil, true, false then value
        when String, Symbol then Encodable.text(value)
        when Integer then (value.bit_length > LARGEST_BITS) ? "#{value.bit_length} bits" : value
        when Float then value.finite? ? value : value.to_s
        when Hash then value.to_h { |key, inner| [Encodable.text(key), of(inner, depth + 1)] }
        when Array then value.map { |inner| of(inner, depth + 1) }
        else of(parsed(value), depth + 1)
        end
      rescue Exception # of a method that the app has defined # rubocop:disable Lint/RescueException
        Encodable.text(value)
      end

      private

      # The app decides how its objects are written; what it writes must be JSON.
      def parsed(value)
        JSON.parse("[#{JSON.generate(value)}]").first
      end
    end
  end
end
