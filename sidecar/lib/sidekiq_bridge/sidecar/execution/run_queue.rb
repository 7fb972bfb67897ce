# frozen_string_literal: true

module SidekiqBridge
  module Sidecar
    # The runs that wait for a thread, the streams that wait for a reader, and the threads that wait for either.
    #
    # Waking a thread costs more than a small job, so a push wakes one thread only. A thread that takes something wakes the
    # next one if more is left and no thread is on its way. A job that waits lets the woken thread go on, and that thread
    # wakes another. After a job that does not wait, the same thread runs the next: Ruby runs one thread at a time.
    #
    # The thread that reads a run from a stream runs it: the woken thread reads on instead.
    class RunQueue
      # At most `limit` threads run the app's code at once.
      def initialize(limit = Float::INFINITY)
        @limit = limit
        @running = {}.compare_by_identity # threads that run the app's code
        @lock = Mutex.new
        @runs = []
        @streams = []   # those that no thread reads
        @readers = {}.compare_by_identity # threads that read now
        @idle = []      # one condition for each idle thread, the last to fall asleep at the end: its caches are warm
        @woken = nil    # the condition of the thread that is on its way
        @closed = false
      end

      def empty? = @runs.empty?

      # Adds a run. Wakes no thread for a run that a reader adds, because the reader calls #read_on next.
      def <<(run)
        @lock.synchronize do
          @runs << run
          wake_one unless @readers.key?(Thread.current)
        end
      end

      # Has a thread read this stream.
      def read(stream)
        @lock.synchronize do
          @streams << stream
          wake_one
        end
      end

      # Returns the next run, or a stream to be read; nil after #close. The caller's last run has ended.
      def pop
        @lock.synchronize do
          item = (next_run || next_stream if @running.delete(Thread.current)) || sleep_for_item
          wake_one if more?
          item
        end
      end

      # The calling thread has read from this stream, and other threads read on. Returns as #pop.
      def read_on(stream)
        @lock.synchronize do
          @readers.delete(Thread.current)
          @streams << stream
          item = next_run || next_stream
          wake_one if more?
          item
        end
      end

      # The calling thread ends.
      def leave
        @lock.synchronize do
          @readers.delete(Thread.current)
          @running.delete(Thread.current)
          wake_one if more?
        end
      end

      # Gives nil to threads that find no run from now on.
      def close
        @lock.synchronize do
          @closed = true
          @idle.each(&:signal)
        end
      end

      private

      def wake_one
        return if @woken
        @woken = @idle.pop
        @woken&.signal
      end

      def more? = !@streams.empty? || (!@runs.empty? && @running.size < @limit)

      def next_run
        return if @runs.empty? || @running.size >= @limit
        @running[Thread.current] = true
        @runs.shift
      end

      def next_stream
        return if @streams.empty?
        @readers[Thread.current] = true
        @streams.shift
      end

      # A thread that was woken reads first: the thread that called it runs what there is.
      def sleep_for_item
        until (item = next_stream || next_run)
          return if @closed
          sleep_until_called
        end
        item
      end

      def sleep_until_called
        condition = (Thread.current[:bridge_condition] ||= ConditionVariable.new)
        @idle << condition
        condition.wait(@lock)
      ensure
        @idle.delete(condition)
        @woken = nil if @woken.equal?(condition)
      end
    end
  end
end
