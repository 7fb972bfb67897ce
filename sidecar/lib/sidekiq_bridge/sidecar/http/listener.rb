# frozen_string_literal: true

require "socket"
require "sidekiq_bridge/sidecar/errors"

module SidekiqBridge
  module Sidecar
    # A listening socket at a Bind. It is opened apart from Puma, so that the processes of a cluster can share it.
    class Listener
      BACKLOG = 1024
      MODE = 0o660

      attr_reader :bind

      # Removes a socket file that its process could not remove itself.
      def self.remove(bind)
        File.unlink(bind.path) if bind.unix? && File.lstat(bind.path).socket?
      rescue Errno::ENOENT
        nil # the process has removed it
      end

      def initialize(bind)
        @bind = bind
      end

      def open
        @socket = bind.unix? ? open_unix : TCPServer.new(bind.host, bind.port)
        @socket.listen(BACKLOG)
        @owner_pid = Process.pid
        self
      rescue SystemCallError, SocketError => e
        raise StartError, "cannot listen on #{bind} (#{e.message}): free it, or choose another with --bind"
      end

      # Puma's binder takes open sockets in all versions.
      def attach(server, log)
        case bind.scheme
        when "unix" then server.binder.inherit_unix_listener(bind.path, release_fd)
        when "ssl" then server.binder.inherit_ssl_listener(@socket, tls_context(log))
        else server.binder.inherit_tcp_listener(bind.host, bind.port, no_delay(@socket))
        end
      end

      # Puma closes the socket; the sidecar removes the file.
      def close
        self.class.remove(bind) if @owner_pid == Process.pid
      end

      # Closes this process's copy of the socket; its owner goes on listening.
      def abandon
        @socket&.close
      rescue SystemCallError
        nil # Puma's object for the same descriptor has closed it
      end

      private

      # Creates the file with its final mode: other users could connect between bind and chmod.
      def open_unix
        remove_stale
        umask = File.umask(0o777 & ~MODE)
        UNIXServer.new(bind.path)
      ensure
        File.umask(umask) if umask
      end

      # A socket file outlives its server, so the sidecar removes one that no server answers on. Linux refuses a
      # connection to an ordinary file in the same way, and that file is a user's.
      def remove_stale
        raise StartError, "#{bind} names a file that is not a socket: correct --bind" unless File.lstat(bind.path).socket?
        UNIXSocket.new(bind.path).close
        raise StartError, "another server answers on #{bind}: stop it, or choose another with --bind"
      rescue Errno::ECONNREFUSED
        File.unlink(bind.path)
      rescue Errno::ENOENT
        nil # no server answers, as usual
      end

      # Puma makes an object of its own from the descriptor; this object must then not close it.
      def release_fd
        @socket.autoclose = false
        @socket.fileno
      end

      def no_delay(socket)
        socket.setsockopt(Socket::IPPROTO_TCP, Socket::TCP_NODELAY, 1)
        socket
      end

      def tls_context(log)
        require "puma/minissl"
        require "puma/minissl/context_builder"
        no_delay(@socket)
        ::Puma::MiniSSL::ContextBuilder.new(bind.tls.dup, log).context
      end
    end
  end
end
