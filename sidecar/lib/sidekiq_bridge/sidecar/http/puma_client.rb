# frozen_string_literal: true

require "puma/client"
require "sidekiq_bridge/sidecar/http/budgeted_client"

module SidekiqBridge
  module Sidecar
    # Puma buffers a whole body before the app sees the request: in memory, beyond 112 KB in a file. Here the headers are
    # looked at first, and the body of a request that is not signed is not kept. Such a request is answered by the app
    # like any other, without a body, and its connection is closed. For Puma 5 to 8.
    module PumaClient
      # Queue names, trace context and baggage have room in it.
      HEADER_BYTES = 32 * 1024
      # A body up to this size is read and thrown away, so that its sender hears the answer instead of a reset.
      DISCARDED_BYTES = 64 * 1024
      # An answer to an unsigned request goes into the socket at once; its reader may be slow.
      SEND_BYTES = 256 * 1024
      COMMA_NAME = /\AHTTP_X[,_]BRIDGE[,_]/

      # Where a body goes that is not kept.
      class DiscardedBody
        def write(text) = text.bytesize

        def read(*) = nil

        def rewind = 0

        def close = nil
      end

      def self.install
        ::Puma::Client.prepend(self) unless ::Puma::Client.include?(self)
      end

      def try_to_finish
        super.tap { |finished| bridge_count_headers unless finished || in_data_phase }
      end

      def close
        bridge_drain if @bridge_unread
        @body.close if @tempfile && !@body.closed?
        super
      ensure
        BudgetedClient.of(@io)&.closed
      end

      private

      def setup_body
        client = BudgetedClient.of(@io)
        bridge_check_target
        return super.tap { |finished| bridge_keep_in_memory if @tempfile && !finished } if client.nil? || client.signed?(@env)
        @to_io.setsockopt(Socket::SOL_SOCKET, Socket::SO_SNDBUF, SEND_BYTES)
        @env["HTTP_CONNECTION"] = "close"
        return bridge_answer_now unless bridge_discardable?
        super.tap { |finished| @body = DiscardedBody.new unless finished }
      end

      def bridge_count_headers
        bytes = @buffer ? @buffer.bytesize : 0
        raise ::Puma::HttpParserError, "the headers are larger than #{HEADER_BYTES} bytes" if bytes > HEADER_BYTES
        BudgetedClient.of(@io)&.holds(bytes)
      end

      # What Puma would only find out when it is too late for a 400, and what it would turn into a signed header.
      def bridge_check_target
        target = @env["REQUEST_URI"].to_s
        raise ::Puma::HttpParserError, "the target of the request has no path" unless target.start_with?("/") || URI.parse(target).path
        raise ::Puma::HttpParserError, "a header's name has an underscore" if @env.any? { |name, _| name.include?(",") && COMMA_NAME.match?(name) }
      rescue URI::Error
        raise ::Puma::HttpParserError, "the target of the request is not a URI"
      end

      # The app reads the whole body into memory anyway. A container's /tmp is small, and a few signed bodies filled it.
      def bridge_keep_in_memory
        @body.rewind
        start = @body.read
        @body.close
        @tempfile = nil
        @body = StringIO.new(start.b)
        @body.seek(0, IO::SEEK_END)
      end

      def bridge_discardable?
        !@env.key?("HTTP_TRANSFER_ENCODING") && !@env.key?("HTTP_EXPECT") && @env["CONTENT_LENGTH"].to_i <= DISCARDED_BYTES
      end

      # Without a byte of the body.
      def bridge_answer_now
        %w[HTTP_TRANSFER_ENCODING HTTP_EXPECT CONTENT_LENGTH].each { |name| @env.delete(name) }
        @bridge_unread = true
        @read_header = false
        @buffer = nil
        @body = ::Puma::Client::EmptyBody
        set_ready
        true
      end

      # What lies in the socket unread would turn its end into a reset, which takes the answer with it.
      def bridge_drain
        @to_io.shutdown(Socket::SHUT_WR)
        buffer = +""
        16.times { break unless @to_io.read_nonblock(DISCARDED_BYTES, buffer, exception: false).is_a?(String) }
      rescue IOError, SystemCallError
        nil # the peer was faster
      end
    end
  end
end
