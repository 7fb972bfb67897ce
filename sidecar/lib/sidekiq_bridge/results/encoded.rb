# frozen_string_literal: true

require "json"

module SidekiqBridge
  module Results
    # The return value of a job as JSON; or `lost`, the reason why it cannot be stored.
    class Encoded
      LARGEST_BYTES = 65_536
      DEEPEST = 90
      # Python reads no longer integer from JSON.
      LARGEST_BITS = 13_000

      # A value that JSON cannot hold.
      class Unfit < StandardError; end

      attr_reader :json, :lost

      NOTHING = new.tap { |nothing| nothing.instance_variable_set(:@json, "null") }.freeze

      # Never raises: the job is done, whatever it has returned.
      def self.of(value)
        return NOTHING if value.nil?
        json = JSON.generate(plain(value, 0), max_nesting: DEEPEST + 2)
        return new(json) if json.bytesize <= LARGEST_BYTES
        new(nil, "it has #{json.bytesize} bytes of JSON, and at most #{LARGEST_BYTES} are kept")
      rescue Unfit => e
        new(nil, "JSON cannot hold it: #{e.message}")
      rescue => e
        new(nil, "JSON cannot hold it: #{e.class}")
      end

      def initialize(json = nil, lost = nil)
        @json = json
        @lost = lost
      end

      # Strict: JSON.generate would write the text of any object.
      def self.plain(value, depth)
        raise Unfit, "it is nested too deeply" if depth > DEEPEST
        case value
        when nil, true, false then value
        when String then text(value)
        when Symbol then text(value.name)
        when Integer then (value.bit_length > LARGEST_BITS) ? raise(Unfit, "an integer of #{value.bit_length} bits") : value
        when Float then value.finite? ? value : raise(Unfit, value.to_s)
        when Array then value.map { |inner| plain(inner, depth + 1) }
        when Hash then value.to_h { |key, inner| [name(key), plain(inner, depth + 1)] }
        else raise Unfit, "a value of #{value.class}"
        end
      end
      private_class_method :plain

      def self.name(key)
        case key
        when String then text(key)
        when Symbol, Integer then key.to_s
        else raise Unfit, "a key of #{key.class}"
        end
      end
      private_class_method :name

      def self.text(string)
        utf8 = (string.encoding == Encoding::UTF_8) ? string : string.encode(Encoding::UTF_8)
        utf8.valid_encoding? ? utf8 : raise(Unfit, "text that is not UTF-8")
      rescue EncodingError
        raise Unfit, "text that is not UTF-8"
      end
      private_class_method :text
    end
  end
end
