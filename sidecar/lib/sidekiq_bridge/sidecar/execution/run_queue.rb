# frozen_string_literal: true

module SidekiqBridge
  module Sidecar
    # The runs that wait for a thread, and the threads that wait for a run.
    #
    # Waking a thread costs more than a small job, so a push wakes one thread only. A thread that takes a run wakes the
    # next one if runs are left and no thread is on its way. A job that waits lets the woken thread go on, and that
    # thread wakes another. After a job that does not wait, the same thread runs the next: Ruby runs one thread at a
    # time.
    class RunQueue
      def initialize
        @lock = Mutex.new
        @runs = []
        @idle = []      # one condition for each idle thread, the last to fall asleep at the end: its caches are warm
        @woken = nil    # the condition of the thread that is on its way
        @closed = false
      end

      def empty? = @runs.empty?

      def <<(run)
        @lock.synchronize do
          @runs << run
          wake_one
        end
      end

      # Returns the next run, or nil after #close.
      def pop
        @lock.synchronize do
          sleep_until_called while @runs.empty? && !@closed
          run = @runs.shift
          wake_one unless @runs.empty?
          run
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
