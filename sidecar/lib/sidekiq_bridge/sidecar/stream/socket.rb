# frozen_string_literal: true

require "io/wait"
require "socket"

module SidekiqBridge
  module Sidecar
    # A socket that Puma gave up: one thread reads it, others write.
    class StreamSocket
      # Reads many frames in one system call.
      READ_BYTES = 64 * 1024
      # Detects a vanished peer after a minute and a half, instead of the usual two hours.
      KEEPALIVE = {TCP_KEEPIDLE: 60, TCP_KEEPINTVL: 10, TCP_KEEPCNT: 3}.freeze

      def self.for(io)
        io.is_a?(::IO) ? new(io) : TlsStreamSocket.new(io)
      end

      def initialize(io)
        @io = io
        keep_alive(io.to_io)
      end

      # Replaces the content of `buffer`.
      def read_into(buffer) = @io.readpartial(READ_BYTES, buffer)

      # True if #write_some always returns at once.
      def immediate? = true

      # Returns the number of bytes written, or :wait_writable.
      def write_some(text) = @io.write_nonblock(text, exception: false)

      def wait_writable = @io.wait_writable

      # The peer sees the end, and may still send.
      def end_writing = @io.shutdown(Socket::SHUT_WR)

      def close = @io.close

      private

      def keep_alive(socket)
        return if socket.local_address.unix?
        socket.setsockopt(Socket::SOL_SOCKET, Socket::SO_KEEPALIVE, true)
        KEEPALIVE.each { |name, value| socket.setsockopt(Socket::IPPROTO_TCP, Socket.const_get(name), value) if Socket.const_defined?(name) }
      end
    end

    # Puma's TLS engine allows one thread at a time: two writing threads would send encrypted bytes out of order.
    class TlsStreamSocket < StreamSocket
      def initialize(io)
        super
        @lock = Mutex.new
      end

      def read_into(buffer)
        data = exclusively { @io.read_nonblock(READ_BYTES) }
        raise EOFError unless data
        buffer.replace(data)
      rescue ::IO::WaitReadable
        @io.to_io.wait_readable
        retry
      end

      # Puma offers no non-blocking write.
      def immediate? = false

      def write_some(text) = exclusively { @io.write(text) }

      # Puma's TLS cannot close one direction alone.
      def end_writing = close

      # Sends TLS's close_notify only if that need not wait, neither for a running write nor for the peer.
      def close
        return @io.to_io.close unless @lock.try_lock
        begin
          @io.to_io.wait_writable(0) ? @io.close : @io.to_io.close
        ensure
          @lock.unlock
        end
      end

      private

      def exclusively(&block)
        @lock.synchronize(&block)
      rescue ::Puma::MiniSSL::SSLError => e
        raise IOError, e.message
      end
    end
  end
end
