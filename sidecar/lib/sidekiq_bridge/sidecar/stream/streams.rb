# frozen_string_literal: true

require "sidekiq_bridge/sidecar/stream/socket"
require "sidekiq_bridge/sidecar/stream/stream"

module SidekiqBridge
  module Sidecar
    # The streams that are open. Puma forgets a connection that was taken from it, so they are ended from here.
    class Streams
      FLUSH_SECONDS = 5

      def initialize(dispatcher:, busy:, max_body:)
        @options = {dispatcher: dispatcher, busy: busy, max_body: max_body}
        @lock = Mutex.new
        @open = {}
      end

      def size = @open.size

      # Serves `io` from now on, after a greeting. The seals are those of what comes in and of what goes out, if any.
      def open(io, greeting, incoming = nil, outgoing = nil)
        stream = Stream.new(StreamSocket.for(io), incoming: incoming, outgoing: outgoing, **@options) { |ended| @lock.synchronize { @open.delete(ended) } }
        @lock.synchronize { @open[stream] = true }
        stream.start(greeting)
      rescue
        @lock.synchronize { @open.delete(stream) }
        io.close # nobody else has it any more
        raise
      end

      # Once nothing new is taken: the last replies, then the end.
      def close
        deadline = Process.clock_gettime(Process::CLOCK_MONOTONIC) + FLUSH_SECONDS
        @lock.synchronize { @open.keys }.map { |stream| Thread.new { stream.finish(deadline) } }.each(&:join)
      end
    end
  end
end
