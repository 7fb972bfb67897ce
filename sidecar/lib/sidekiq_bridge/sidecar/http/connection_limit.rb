# frozen_string_literal: true

require "sidekiq"

module SidekiqBridge
  module Sidecar
    # How many connections may be open on the listening sockets of one server. Whoever reaches an address can open some
    # before anything is asked for a signature, and each costs a file, which the app's own connections need.
    class ConnectionLimit
      MOST = 4096
      # The app needs files too.
      SHARE = 2
      LOG_SECONDS = 60
      # Looking through all at each connection would cost more with each that is open.
      FIRST_LOOK = 64

      # By the files that this process may open.
      def self.of_this_process(&on_refused)
        new([Process.getrlimit(:NOFILE).first / SHARE, MOST].min, &on_refused)
      end

      # The block is called for each connection that is closed again.
      def initialize(most, &on_refused)
        @most = most
        @on_refused = on_refused
        @open = []
        @look_at = FIRST_LOOK
        @log_at = 0
      end

      # Puma's listening socket goes on to accept as it did.
      def guard(socket)
        limit = self
        socket.define_singleton_method(:accept_nonblock) { |*args, **options| limit.admit(super(*args, **options)) }
      end

      # Called by the one thread of a server that accepts. For what is too much Puma hears that nobody came after all.
      def admit(connection)
        forget_closed if @open.size >= [@look_at, @most].min
        return @open.push(connection).last if @open.size < @most
        connection.close
        refused
        raise IO::EAGAINWaitReadable
      end

      private

      # Not only when all are in use: one that is closed keeps what its TLS needed as long as it is remembered.
      def forget_closed
        @open.reject!(&:closed?)
        @look_at = [FIRST_LOOK, 2 * @open.size].max
      end

      def refused
        @on_refused&.call
        return if now < @log_at
        @log_at = now + LOG_SECONDS
        ::Sidekiq.logger.error do
          "#{@most} connections are open, and others are closed at once: look who opens them, or raise the " \
            "number of files a process may open (ulimit -n, LimitNOFILE)"
        end
      end

      def now = Process.clock_gettime(Process::CLOCK_MONOTONIC)
    end
  end
end
