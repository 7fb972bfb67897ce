# frozen_string_literal: true

module SidekiqBridge
  module Sidecar
    # Sends the replies of a stream. The thread that adds a reply writes it if the socket takes it at once. The writer's
    # own thread sends the rest together: replies added meanwhile, and those that wait for the peer.
    class StreamWriter
      # The sidecar takes no more jobs from a peer that leaves more bytes than this unread.
      ROOM_BYTES = 1024 * 1024
      # Replies wait for each other if more will follow: at most TOGETHER of them, for TOGETHER_SECONDS. The worker
      # sends its next jobs meanwhile.
      TOGETHER = 5
      TOGETHER_SECONDS = 0.0005

      # `seal` puts a code on each frame; nil without a secret. `keeper` calls #send_held soon after its #hold.
      def initialize(socket, seal = nil, keeper = nil)
        @socket = socket
        @seal = seal
        @keeper = keeper
        @lock = Mutex.new
        @filled = ConditionVariable.new
        @emptied = ConditionVariable.new
        @pending = +"".b
        @writing = 0    # bytes that the thread is just writing
        @called = @closed = false
        @answered = @waiting = 0
        @sent_at = monotonic
      end

      # The number of added replies.
      attr_reader :answered

      # Adds a frame. `more` says that another reply will follow soon, so that waiting for it saves a system call.
      def add(line, body = "", more: false)
        @lock.synchronize do
          @answered += 1
          next if @closed
          # Under the lock: the codes are numbered in the order in which frames leave.
          @pending << @seal.tag(line, body) << " " if @seal
          @pending << line << "\n" << body
          send_pending(more)
        end
      end

      # Sends the replies that wait for others.
      def send_held
        @lock.synchronize { write_now unless @closed || @called || @writing.positive? || @pending.empty? }
      end

      # Sends text before the first frame.
      def greet(text)
        @lock.synchronize do
          @answered += 1
          next if @closed
          @pending << text
          send_pending(false)
        end
      end

      def start
        @thread = Thread.new { write_on }
        @thread.name = "bridge.stream-writer"
      end

      # Waits until more replies fit; returns false once the writer is closed.
      def room?
        return true if size < ROOM_BYTES && !@closed
        @lock.synchronize { @emptied.wait(@lock) until @closed || size < ROOM_BYTES }
        !@closed
      end

      # Waits until `count` replies were added and written, at most until `deadline`; returns whether they are.
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

      # Drops unwritten bytes.
      def close
        @lock.synchronize do
          @closed = true
          @pending.clear
          @filled.broadcast
          @emptied.broadcast
        end
      end

      private

      def send_pending(more)
        return if @writing.positive?
        return call_thread unless @socket.immediate?
        return write_now unless more && may_wait?
        call_thread unless @keeper&.hold(self)
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

      # Writes on the calling thread: a change of threads costs more than the system call.
      def write_now
        @waiting = 0
        @sent_at = monotonic
        written = @socket.write_some(@pending)
        return call_thread if written == :wait_writable
        return finish_writing if written == @pending.bytesize
        @pending = @pending.byteslice(written, @pending.bytesize)
        call_thread
      rescue IOError, SystemCallError
        call_thread # it gets the same error, and ends the stream
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
          # Checks each time: another thread may have written the bytes meanwhile.
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
