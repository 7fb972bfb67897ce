# frozen_string_literal: true

require "sidekiq_bridge/sidecar/stream/socket"
require "sidekiq_bridge/sidecar/stream/stream"

module SidekiqBridge
  module Sidecar
    # The open streams. Puma forgets a connection that it gave up, so this object ends them.
    class Streams
      FLUSH_SECONDS = 5

      # `reader` has threads read a stream: its #read gets each one. Its #hold gets writers that may keep replies.
      def initialize(dispatcher:, reader:, busy:, max_body:)
        @reader = reader
        @options = {dispatcher: dispatcher, busy: busy, keeper: reader, max_body: max_body}
        @lock = Mutex.new
        @open = {}
      end

      def size = @open.size

      # Serves `io` from now on, after a greeting. The seals are those of incoming and outgoing frames; nil without a
      # secret.
      def open(io, greeting, incoming = nil, outgoing = nil)
        stream = Stream.new(StreamSocket.for(io), incoming: incoming, outgoing: outgoing, **@options) { |ended| @lock.synchronize { @open.delete(ended) } }
        @lock.synchronize { @open[stream] = true }
        stream.start(greeting)
        @reader.read(stream)
      rescue
        @lock.synchronize { @open.delete(stream) }
        io.close # no other object would close it
        raise
      end

      # Sends the last replies and ends the streams, once the executor refuses new jobs.
      def close
        deadline = Process.clock_gettime(Process::CLOCK_MONOTONIC) + FLUSH_SECONDS
        @lock.synchronize { @open.keys }.map { |stream| Thread.new { stream.finish(deadline) } }.each(&:join)
      end
    end
  end
end
