# frozen_string_literal: true

require "puma/client"
require "sidekiq_bridge/sidecar/http/budgeted_client"

module SidekiqBridge
  module Sidecar
    # Puma buffers a whole body before the app sees the request: in memory, beyond 112 KB in a file. This class checks
    # the headers first and discards the body of an unsigned request. The app answers such a request without a body, and
    # Puma closes its connection. For Puma 5 to 8.
    module PumaClient
      # Queue names, trace context and baggage fit into this.
      HEADER_BYTES = 32 * 1024
      # Puma reads and discards a body up to this size, so that its sender gets the answer instead of a reset.
      DISCARDED_BYTES = 64 * 1024
      # Puma writes an answer to an unsigned request at once; its reader may be slow.
      SEND_BYTES = 256 * 1024
      COMMA_NAME = /\AHTTP_X[,_]BRIDGE[,_]/

      # Takes the bytes of a discarded body.
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

      # Refuses a target that Puma refuses too late for a 400. Refuses a header name that Puma turns into a signed
      # header.
      def bridge_check_target
        target = @env["REQUEST_URI"].to_s
        raise ::Puma::HttpParserError, "the target of the request has no path" unless target.start_with?("/") || URI.parse(target).path
        raise ::Puma::HttpParserError, "a header's name has an underscore" if @env.any? { |name, _| name.include?(",") && COMMA_NAME.match?(name) }
      rescue URI::Error
        raise ::Puma::HttpParserError, "the target of the request is not a URI"
      end

      # Keeps a signed body in memory, where the app needs it anyway. A container's /tmp is small: a few signed bodies
      # filled it.
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

      # Ends the request without a byte of the body.
      def bridge_answer_now
        %w[HTTP_TRANSFER_ENCODING HTTP_EXPECT CONTENT_LENGTH].each { |name| @env.delete(name) }
        @bridge_unread = true
        @read_header = false
        @buffer = nil
        @body = ::Puma::Client::EmptyBody
        set_ready
        true
      end

      # Reads the unread bytes: otherwise closing the socket becomes a reset and destroys the answer.
      def bridge_drain
        @to_io.shutdown(Socket::SHUT_WR)
        buffer = +""
        16.times { break unless @to_io.read_nonblock(DISCARDED_BYTES, buffer, exception: false).is_a?(String) }
      rescue IOError, SystemCallError
        nil # the peer has closed the connection
      end
    end
  end
end
