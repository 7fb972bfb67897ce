# frozen_string_literal: true

require "sidekiq_bridge/sidecar/execution/held_replies"

module SidekiqBridge
  module Sidecar
    # The runs that wait for a thread, the streams that wait for a reader, and the threads that wait for either.
    #
    # Waking a thread costs more than a small job, so a push wakes one thread only. A thread that takes something wakes the
    # next one if more is left and no thread is on its way. A job that waits lets the woken thread go on, and that thread
    # wakes another. After a job that does not wait, the same thread runs the next: Ruby runs one thread at a time.
    #
    # The thread that reads a run from a stream runs it: the woken thread reads on instead.
    #
    # A woken thread finds nothing to do after short jobs, as long as the thread that called it runs them. After
    # SHORT_JOBS of them it is called no more. One idle thread then looks every LOOK_SECONDS, and takes over when no job
    # has ended since its last look.
    class RunQueue
      SHORT_JOBS = 300
      # After a rest without jobs these are enough.
      AFTER_A_REST = 20
      # A job that takes its time keeps the next one waiting for two of these at most.
      LOOK_SECONDS = 0.002

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
        @watch = nil    # that of the idle thread that looks again and again
        @held = HeldReplies.new
        @ended = 0      # runs
        @short = 0      # runs that ended one after the other while no thread ran another
        @closed = false
      end

      def empty? = @runs.empty?

      # Keeps the replies of this writer while other jobs wait; false if they may take their time. Only a thread that runs
      # a job comes back here soon, and sees to what is held.
      def hold(writer)
        return false unless short_jobs? && @running.key?(Thread.current)
        @held.add(writer)
        true
      end

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
          item = (after_run if @running.delete(Thread.current)) || sleep_for_item
          call_one
          item
        end
      end

      # The calling thread has read from this stream, and other threads read on. Returns as #pop.
      def read_on(stream)
        @lock.synchronize do
          @readers.delete(Thread.current)
          @streams << stream
          item = next_item
          call_one
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

      # Wakes a thread for what is left, unless one looks soon. Sends held replies where no other thread can: the caller's
      # next run may take its time.
      def call_one
        return if (@watch && short_jobs?) || !more?
        wake_one || @held.send_all
      end

      def short_jobs? = @short >= SHORT_JOBS

      def after_run
        @ended += 1
        @short += 1
        next_item
      end

      def next_item
        next_run || begin
          @held.send_all
          next_stream
        end
      end

      def more? = @held.any? || !@streams.empty? || (!@runs.empty? && @running.size < @limit)

      def next_run
        return if @runs.empty? || @running.size >= @limit
        note_others
        @running[Thread.current] = true
        @runs.shift
      end

      def next_stream
        return if @streams.empty?
        note_others
        @readers[Thread.current] = true
        @streams.shift
      end

      # A thread that comes here while another runs a job was let in by that job, which waits.
      def note_others
        @short = 0 unless @running.empty?
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
        short_jobs? && !@watch ? look_on(condition) : condition.wait(@lock)
        @held.send_all
      ensure
        @idle.delete(condition)
        @woken = nil if @woken.equal?(condition)
        @watch = nil if @watch.equal?(condition)
      end

      # Returns when it is called, or when no run has ended between two looks: there is none, or one that takes its time.
      def look_on(condition)
        @watch = condition
        begin
          ended = @ended
          condition.wait(@lock, LOOK_SECONDS)
        end until @ended == ended || @woken.equal?(condition) || @closed
        @short = more? ? 0 : [@short, SHORT_JOBS - AFTER_A_REST].min unless @woken.equal?(condition)
      end
    end
  end
end
