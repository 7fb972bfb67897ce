# frozen_string_literal: true

require "socket"
require "sidekiq_bridge/sidecar/http/head"
require "sidekiq_bridge/sidecar/stream/socket"

module SidekiqBridge
  module Sidecar
    # One open port reaches every Puma worker. The operating system picks the Puma worker that accepts a connection,
    # whichever one its client means. If a signed request means another Puma worker, this process tunnels the
    # connection. It forwards all bytes to that worker's private socket, and the replies back. Later requests on the
    # connection name the same Puma worker.
    #
    # A Unix socket needs no tunnels: there each Puma worker has a socket of its own beside the shared one.
    class Tunnels
      MISDIRECTED = 421
      # Any Puma worker lists all of them, and a client must get the list from one that answers.
      LIST = "/health"
      TAKEN = [200, {}.freeze, [].freeze].freeze # the server has lost the connection, and sends nothing

      def initialize(app, state_files)
        @app = app
        @state_files = state_files
        @lock = Mutex.new
        @open = {}
      end

      # The app checks the signature before it answers 421, so an unsigned request opens no tunnel.
      def call(env)
        reply = @app.call(env)
        (reply[0] == MISDIRECTED && env["PATH_INFO"] != LIST && open(env)) || reply
      end

      # Waits until the siblings have ended the tunnels, which carry their last replies, then ends the rest.
      def close(deadline)
        @lock.synchronize { @open.keys }.each do |tunnel|
          tunnel.join([deadline - Process.clock_gettime(Process::CLOCK_MONOTONIC), 0].max)
          tunnel.cut
        end
      end

      # Closes this process's copies of the connections to siblings.
      def abandon = @open.each_key(&:abandon)

      private

      # Does nothing if no sibling has this boot id, or if that sibling has ended.
      def open(env)
        path = env["rack.hijack"] && @state_files.socket_of(env["HTTP_X_BRIDGE_BOOT"])
        return unless path
        sibling = Tunnel.begin(UNIXSocket.new(path), env)
        tunnel = Tunnel.new(StreamSocket.for(env["rack.hijack"].call), sibling) { |ended| @lock.synchronize { @open.delete(ended) } }
        @lock.synchronize { @open[tunnel] = true }
        tunnel.start
        TAKEN
      rescue SystemCallError, ArgumentError
        nil
      end
    end

    # One connection, forwarded to another process.
    class Tunnel
      READ_BYTES = 64 * 1024
      # Headers that the tunnel writes itself for the sibling, or that the server has answered.
      OF_THE_SERVER = %w[HTTP_VERSION HTTP_TRANSFER_ENCODING HTTP_CONTENT_LENGTH HTTP_EXPECT].freeze

      # Sends the part that the server has read and the signature covers: method, target, headers and body. Returns the
      # sibling.
      def self.begin(sibling, env)
        headers = env.filter_map { |key, value| [key.delete_prefix("HTTP_").tr("_", "-"), value] if key.start_with?("HTTP_") && !OF_THE_SERVER.include?(key) }
        input = env["rack.input"]
        headers << ["Content-Length", input.size] if input
        sibling.write(Head.of("#{env["REQUEST_METHOD"]} #{env["REQUEST_URI"]} HTTP/1.1", headers))
        input&.rewind
        IO.copy_stream(input, sibling) if input
        sibling
      end

      # `client` is a StreamSocket, `sibling` an IO. The tunnel calls the block at its end.
      def initialize(client, sibling, &on_end)
        @client = client
        @sibling = sibling
        @on_end = on_end
      end

      def start
        @up = named("bridge.tunnel-up") { send_up }
        @down = named("bridge.tunnel-down") { send_down }
      end

      def join(seconds) = @down.join(seconds)

      def abandon = close(@sibling)

      def cut
        [@client, @sibling].each { |socket| close(socket) }
      end

      private

      def named(name, &work)
        Thread.new do
          Thread.current.report_on_exception = false
          work.call
        rescue IOError, SystemCallError
          nil # one side has closed, and #cut closes the other
        end.tap { |thread| thread.name = name }
      end

      def send_up
        buffer = +""
        loop { @sibling.write(@client.read_into(buffer) && buffer) }
      ensure
        end_writing
      end

      def send_down
        buffer = +""
        loop { write(@sibling.readpartial(READ_BYTES, buffer)) }
      ensure
        cut
        @on_end&.call(self)
      end

      def write(bytes)
        until bytes.empty?
          written = @client.write_some(bytes)
          (written == :wait_writable) ? @client.wait_writable : bytes = bytes.byteslice(written..)
        end
      end

      def end_writing
        @sibling.close_write
      rescue IOError, SystemCallError
        nil # the sibling has closed it
      end

      def close(socket)
        socket.close
      rescue IOError, SystemCallError
        nil
      end
    end
  end
end
