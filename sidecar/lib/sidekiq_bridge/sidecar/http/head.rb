# frozen_string_literal: true

module SidekiqBridge
  module Sidecar
    # The one place where the sidecar itself, instead of the server, writes the head of a request or a reply.
    module Head
      UNSAFE = /[\x00-\x08\x0a-\x1f\x7f]/n

      # Returns the head with its blank line. It refuses a line break in a value, which would inject a header or a
      # request.
      def self.of(start_line, headers)
        lines = [start_line, *headers.map { |name, value| "#{name}: #{value}" }].map(&:b)
        raise ArgumentError, "no head was written: a line of it holds a control character" if lines.any?(UNSAFE)
        [*lines, "", ""].join("\r\n")
      end
    end
  end
end
