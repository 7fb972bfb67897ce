# frozen_string_literal: true

require "puma/client"

module SidekiqBridge
  module Sidecar
    # Small chunks cost Puma much CPU: 30 MB in chunks of one byte took 12 s. The worker sends no chunks, and a proxy
    # sends large ones.
    module PumaChunkFloor
      SMALLEST_MEAN_BYTES = 64
      FREE_CHUNKS = 1024

      def self.install
        ::Puma::Client.prepend(self)
      end

      private

      def setup_chunked_body(body)
        @chunks = 0
        super
      end

      def write_chunk(text)
        @chunks += 1
        super.tap { |length| raise ::Puma::HttpParserError, "the chunks are too small" if length < SMALLEST_MEAN_BYTES * (@chunks - FREE_CHUNKS) }
      end
    end
  end
end
