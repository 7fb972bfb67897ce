# frozen_string_literal: true

require "sidekiq_bridge/sidecar/execution/replies"
require "sidekiq_bridge/sidecar/stream/frame_parser"
require "sidekiq_bridge/sidecar/stream/writer"

module SidekiqBridge
  module Sidecar
    # One connection that carries many jobs. A slot's thread reads frames, passes them to the executor, and runs the first
    # itself, while another thread reads on. Any thread sends replies through the writer.
    class Stream
      # The sidecar read a frame that its worker may have sent long ago.
      class Late < StandardError; end

      # Seconds for the peer to see the end and close its side: a reset could destroy the last replies.
      LINGER_SECONDS = 1
      # A worker probes each 5 s. After this silence the worker has given the stream up, or soon will. The network, or a
      # pause of this process, may have delayed frames that arrive later. The worker may have had those jobs started
      # elsewhere, which it does at least 25 s after the last reply.
      SILENT_SECONDS = 15
      # The frame number that means all frames without a reply.
      ALL_OTHERS = 0

      # The stream calls the block at its end, for any reason.
      def initialize(socket, dispatcher:, busy:, max_body:, keeper: nil, incoming: nil, outgoing: nil, &on_end)
        @socket = socket
        @dispatcher = dispatcher
        @busy = busy
        @parser = FrameParser.new(max_body: max_body, seal: incoming)
        @writer = StreamWriter.new(socket, outgoing, keeper)
        @on_end = on_end
        @received = 0
        @lock = Mutex.new
        @ended = ConditionVariable.new
        @over = false
      end

      # Sends the greeting. From now on #read is to be called until it returns false.
      def start(greeting)
        @received += 1
        @writer.start
        @writer.greet(greeting)
      end

      # Answers the received frames until `deadline`, reports that no other frame has started, and ends. Call it once
      # the executor refuses new jobs.
      def finish(deadline)
        return unless @writer.flush(@received, deadline)
        reply(ALL_OTHERS, @dispatcher.refuse(Refusals.draining))
        return unless @writer.flush(0, deadline)
        @socket.end_writing
        @lock.synchronize { @ended.wait(@lock, LINGER_SECONDS) unless @over }
      rescue IOError, SystemCallError
        nil # the peer has closed the stream
      ensure
        cut
      end

      # Ends at once. Running jobs go on, and their records answer a worker that asks.
      def cut
        @writer.close
        @socket.close
      rescue IOError, SystemCallError
        nil # the stream is closed
      end

      # Waits for frames and serves them. False once the stream has ended.
      def read
        going = false
        return going unless @writer.room?
        wait_for_bytes
        @parser.each_frame { |frame| serve(frame) if @writer.room? }
        going = true
      rescue Late
        ::Sidekiq.logger.warn { "Ended a stream: its worker was silent for #{SILENT_SECONDS} s, and others may run its jobs. Check the network and the worker" }
      rescue FrameParser::Malformed => e
        ::Sidekiq.logger.warn { "Ended a stream: the worker sent #{LogText.line(e.message)}" }
      rescue IOError, SystemCallError
        nil # the peer or this side has closed the stream
      ensure
        conclude unless going
      end

      # Replies to a frame. The thread that ran the job mostly calls it, so it must not raise.
      def settled(id, outcome, delivery)
        refusal = outcome.refusal
        refusal ? reply(id, Replies.refused(refusal)) : send_reply(id, 200, delivery.outcome_json(outcome))
      rescue => e
        reply(id, Replies.crashed(e))
      end

      private

      def conclude
        cut
        @lock.synchronize do
          @over = true
          @ended.broadcast
        end
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
        frame.stream = self
        @dispatcher.deliver(frame, frame)
      rescue RequestError => e
        reply(frame.id, @dispatcher.refuse(e))
      rescue => e
        reply(frame.id, Replies.crashed(e))
      end

      def reply(id, answer)
        send_reply(id, answer.status, answer.body)
      end

      def send_reply(id, status, body)
        @writer.add("#{id} #{status} #{body.bytesize}", body, more: @busy.call)
      end
    end
  end
end
