# frozen_string_literal: true

require "puma/client"

module SidekiqBridge
  module Sidecar
    # Puma buffers a whole body in a file before the app sees the request. Puma 6 and later limit it. This module adds a
    # limit to Puma 5, where any client could fill the disk.
    module PumaBodyLimit
      class << self
        attr_accessor :bytes
      end

      def self.install(bytes)
        return if ::Puma::Client.method_defined?(:http_content_length_limit=)
        self.bytes = bytes
        ::Puma::Client.prepend(self)
      end

      private

      def setup_body
        check_body_limit(@env["CONTENT_LENGTH"].to_i)
        super
      end

      def write_chunk(text)
        super.tap { |length| check_body_limit(length) }
      end

      def check_body_limit(length)
        raise ::Puma::HttpParserError, "the body is too large" if length > PumaBodyLimit.bytes
      end
    end
  end
end
