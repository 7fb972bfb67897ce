# frozen_string_literal: true

require "sidekiq_bridge/sidecar/frame_parser"
require "sidekiq_bridge/sidecar/outbox"
require "sidekiq_bridge/sidecar/replies"

module SidekiqBridge
  module Sidecar
    # One connection that carries many jobs. A thread reads frames and hands them to the executor; replies leave
    # through the outbox, from whatever thread has them.
    class Stream
      # After the last reply: for the peer to see the end and to close its side, so that nothing is lost by a reset.
      LINGER_SECONDS = 1

      # The block is called when the stream has ended, for whatever reason.
      def initialize(socket, intake:, busy:, max_body:, &on_end)
        @socket = socket
        @intake = intake
        @busy = busy
        @parser = FrameParser.new(max_body: max_body)
        @outbox = Outbox.new(socket)
        @on_end = on_end
        @received = 0
      end

      def start(greeting)
        @received += 1
        @outbox.start
        @outbox.add(greeting)
        @reader = Thread.new { read }
        @reader.name = "bridge.stream-reader"
      end

      # Lets what was received be answered until `deadline`, then ends.
      def finish(deadline)
        return unless @outbox.flush(@received, deadline)
        @socket.end_writing
        @reader.join(LINGER_SECONDS)
      rescue IOError, SystemCallError
        nil # the peer was faster
      ensure
        cut
      end

      # Ends at once. What runs goes on, and its record answers who asks.
      def cut
        @outbox.close
        @socket.close
      rescue IOError, SystemCallError
        nil # closed already
      end

      private

      def read
        while @outbox.room?
          @parser.read_from(@socket)
          @parser.each_frame { |frame| serve(frame) if @outbox.room? }
        end
      rescue FrameParser::Malformed => e
        ::Sidekiq.logger.warn { "A stream was ended: the worker sent #{e.message}" }
      rescue IOError, SystemCallError
        nil # the peer has gone, or this side is going
      ensure
        cut
        @on_end.call(self)
      end

      def serve(frame)
        @received += 1
        return @outbox.add("#{frame.id} 200 0\n") if frame.probe?
        @intake.deliver(frame) { |outcome, delivery| settled(frame.id, outcome, delivery) }
      rescue RequestError => e
        reply(frame.id, @intake.refuse(e))
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
        @outbox.add("#{id} #{answer.status} #{body.bytesize}\n#{body}", more: @busy.call)
      end
    end
  end
end
