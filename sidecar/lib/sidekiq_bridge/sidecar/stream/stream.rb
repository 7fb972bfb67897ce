# frozen_string_literal: true

require "sidekiq_bridge/sidecar/execution/replies"
require "sidekiq_bridge/sidecar/stream/frame_parser"
require "sidekiq_bridge/sidecar/stream/writer"

module SidekiqBridge
  module Sidecar
    # One connection that carries many jobs. A thread reads frames and hands them to the executor; replies leave
    # through the writer, from whatever thread has them.
    class Stream
      # What was read may have been sent long ago.
      class Late < StandardError; end

      # After the last reply: for the peer to see the end and to close its side, so that nothing is lost by a reset.
      LINGER_SECONDS = 1
      # A worker probes each 5 s. Where nothing came for so long it has given the stream up, or will not mind: what arrives then
      # was held by the network, or lay here while this process stood still, and the worker may have had those jobs started
      # elsewhere. It does so 25 s after the last sign of life at the earliest.
      SILENT_SECONDS = 15
      # The number of the frame that stands for all frames without a reply.
      ALL_OTHERS = 0

      # The block is called when the stream has ended, for whatever reason.
      def initialize(socket, dispatcher:, busy:, max_body:, incoming: nil, outgoing: nil, &on_end)
        @socket = socket
        @dispatcher = dispatcher
        @busy = busy
        @parser = FrameParser.new(max_body: max_body, seal: incoming)
        @writer = StreamWriter.new(socket, outgoing)
        @on_end = on_end
        @received = 0
      end

      def start(greeting)
        @received += 1
        @writer.start
        @writer.greet(greeting)
        @reader = Thread.new { read }
        @reader.name = "bridge.stream-reader"
      end

      # Lets what was received be answered until `deadline`, then says that nothing else has begun, and ends. To be called
      # once nothing new is taken.
      def finish(deadline)
        return unless @writer.flush(@received, deadline)
        reply(ALL_OTHERS, @dispatcher.refuse(Refusals.draining))
        return unless @writer.flush(0, deadline)
        @socket.end_writing
        @reader.join(LINGER_SECONDS)
      rescue IOError, SystemCallError
        nil # the peer was faster
      ensure
        cut
      end

      # Ends at once. What runs goes on, and its record answers who asks.
      def cut
        @writer.close
        @socket.close
      rescue IOError, SystemCallError
        nil # closed already
      end

      private

      def read
        while @writer.room?
          wait_for_bytes
          @parser.each_frame { |frame| serve(frame) if @writer.room? }
        end
      rescue Late
        ::Sidekiq.logger.warn { "A stream was ended: its worker was silent for #{SILENT_SECONDS} s and may have given its jobs to others" }
      rescue FrameParser::Malformed => e
        ::Sidekiq.logger.warn { "A stream was ended: the worker sent #{LogText.line(e.message)}" }
      rescue IOError, SystemCallError
        nil # the peer has gone, or this side is going
      ensure
        cut
        @on_end.call(self)
      end

      def wait_for_bytes
        waits_since = monotonic
        @parser.read_from(@socket)
        raise Late if monotonic - waits_since > SILENT_SECONDS
      end

      def monotonic = Process.clock_gettime(Process::CLOCK_MONOTONIC)

      def serve(frame)
        @received += 1
        return @writer.add("#{frame.id} 200 0") if frame.probe?
        @dispatcher.deliver(frame) { |outcome, delivery| settled(frame.id, outcome, delivery) }
      rescue RequestError => e
        reply(frame.id, @dispatcher.refuse(e))
      rescue => e
        reply(frame.id, Replies.crashed(e))
      end

      # Mostly on the thread that ran the job, which must come to no harm.
      def settled(id, outcome, delivery)
        reply(id, Replies.settled(delivery, outcome))
      rescue => e
        reply(id, Replies.crashed(e))
      end

      def reply(id, answer)
        body = answer.body
        @writer.add("#{id} #{answer.status} #{body.bytesize}", body, more: @busy.call)
      end
    end
  end
end
