# frozen_string_literal: true

module SidekiqBridge
  module Sidecar
    # The replies on their way out of a stream. Whoever adds one writes it too if that can be done at once; what is
    # finished meanwhile, or must wait for the peer, goes out together from a thread of its own.
    class StreamWriter
      # A peer that lets more than this lie gets no more jobs taken off its hands.
      ROOM_BYTES = 1024 * 1024
      # While others are about to follow, replies wait for each other: at most so many, and so long. The worker sends
      # the next jobs meanwhile, instead of both waiting for each other.
      TOGETHER = 5
      TOGETHER_SECONDS = 0.0005

      # `seal` puts a code on each frame, if there is one.
      def initialize(socket, seal = nil)
        @socket = socket
        @seal = seal
        @lock = Mutex.new
        @filled = ConditionVariable.new
        @emptied = ConditionVariable.new
        @pending = +"".b
        @writing = 0    # bytes that the thread is just writing
        @called = @closed = false
        @answered = @waiting = 0
        @sent_at = monotonic
      end

      # How many replies were added.
      attr_reader :answered

      # A frame. `more` says that another reply is about to follow, so that it pays to wait for it.
      def add(line, body = "", more: false)
        # Under the lock: the codes are numbered in the order in which frames leave.
        enqueue(more) { @seal ? "#{@seal.tag(line, body)} #{line}\n#{body}" : "#{line}\n#{body}" }
      end

      # What goes out before the first frame.
      def greet(text) = enqueue(false) { text }

      def start
        @thread = Thread.new { write_on }
        @thread.name = "bridge.stream-writer"
      end

      # Waits until there is room for more replies; false if there never will be.
      def room?
        return true if size < ROOM_BYTES && !@closed
        @lock.synchronize { @emptied.wait(@lock) until @closed || size < ROOM_BYTES }
        !@closed
      end

      # Waits until `count` replies were added and all are written, at most until `deadline`; says whether they are.
      def flush(count, deadline)
        @lock.synchronize do
          until @closed || (@answered >= count && size.zero?)
            left = deadline - monotonic
            break if left <= 0
            @emptied.wait(@lock, left)
          end
          !@closed && size.zero?
        end
      end

      # What was not written is forgotten.
      def close
        @lock.synchronize do
          @closed = true
          @pending.clear
          @filled.broadcast
          @emptied.broadcast
        end
      end

      private

      def enqueue(more)
        @lock.synchronize do
          @answered += 1
          next if @closed
          @pending << yield
          next if @writing.positive?
          (more && may_wait?) || !@socket.immediate? ? call_thread : write_now
        end
      end

      def size = @pending.bytesize + @writing

      def call_thread
        return if @called
        @called = true
        @filled.signal
      end

      def may_wait?
        (@waiting += 1) < TOGETHER && monotonic - @sent_at < TOGETHER_SECONDS
      end

      # Costs no change of threads, which costs more than the system call.
      def write_now
        @waiting = 0
        @sent_at = monotonic
        written = @socket.write_some(@pending)
        return call_thread if written == :wait_writable
        return finish_writing if written == @pending.bytesize
        @pending = @pending.byteslice(written, @pending.bytesize)
        call_thread
      rescue IOError, SystemCallError
        call_thread # it will see the same, and end the stream
      end

      def finish_writing
        @pending.clear
        @emptied.broadcast
      end

      def write_on
        while (text = take)
          write(text)
          written
        end
      rescue IOError, SystemCallError
        close
      end

      def written
        @lock.synchronize do
          @writing = 0
          @emptied.broadcast
        end
      end

      def take
        @lock.synchronize do
          # Each time: what it was called for may have been written by others meanwhile.
          until @closed || !@pending.empty?
            @called = false
            @filled.wait(@lock)
          end
          next if @closed
          text = @pending
          @pending = +"".b
          @writing = text.bytesize
          text
        end
      end

      def write(text)
        until text.empty?
          written = @socket.write_some(text)
          next @socket.wait_writable if written == :wait_writable
          return if written == text.bytesize
          text = text.byteslice(written, text.bytesize)
        end
      end

      def monotonic = Process.clock_gettime(Process::CLOCK_MONOTONIC)
    end
  end
end
