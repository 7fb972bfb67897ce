# frozen_string_literal: true

require "fileutils"
require "socket"
require "tmpdir"

# A private redis-server for the specs, gone with them.
module RedisServer
  class << self
    attr_reader :port

    def start
      @directory = Dir.mktmpdir("sidecar-spec-redis-")
      @port = TCPServer.open("127.0.0.1", 0) { |server| server.addr[1] }
      @owner = Process.pid
      @pid = spawn("redis-server", "--port", port.to_s, "--bind", "127.0.0.1", "--save", "", "--dir", @directory, out: File::NULL)
      ENV["REDIS_URL"] = "redis://127.0.0.1:#{port}/0"
      wait_until_it_answers
    end

    def stop
      return unless @owner == Process.pid
      Process.kill("KILL", @pid)
      Process.wait(@pid)
      FileUtils.remove_entry(@directory)
    end

    # One command in Redis's inline form, the raw reply.
    def command(text)
      TCPSocket.open("127.0.0.1", port) do |socket|
        socket.write("#{text}\r\n")
        socket.readpartial(65_536)
      end
    end

    def keys = command("KEYS *").scan(/^\$\d+\r\n(.*)\r$/).flatten.sort

    def flush = command("FLUSHALL")

    private

    def wait_until_it_answers
      deadline = Process.clock_gettime(Process::CLOCK_MONOTONIC) + 10
      command("PING")
    rescue Errno::ECONNREFUSED, EOFError
      raise if Process.clock_gettime(Process::CLOCK_MONOTONIC) > deadline
      sleep 0.01
      retry
    end
  end
end
