# frozen_string_literal: true

module SidekiqBridge
  module Sidecar
    # Percent-encoded text. It replaces invalid bytes: the result goes into logs and JSON.
    module Percent
      module_function

      def decode(value)
        value.b.gsub(/%(\h\h)/) { $1.hex.chr }.force_encoding(Encoding::UTF_8).scrub
      end
    end
  end
end
