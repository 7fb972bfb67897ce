# frozen_string_literal: true

module SidekiqBridge
  module Sidecar
    # The one place where the sidecar writes the head of a request or a reply itself, without the server.
    module Head
      UNSAFE = /[\x00-\x08\x0a-\x1f\x7f]/n

      # With the blank line at its end. A line break in a value would begin a header, or a request, of another's choice.
      def self.of(start_line, headers)
        lines = [start_line, *headers.map { |name, value| "#{name}: #{value}" }].map(&:b)
        raise ArgumentError, "no head was written: a line of it holds a control character" if lines.any?(UNSAFE)
        [*lines, "", ""].join("\r\n")
      end
    end
  end
end
