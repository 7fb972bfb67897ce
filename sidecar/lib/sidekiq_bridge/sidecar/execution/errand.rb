# frozen_string_literal: true

module SidekiqBridge
  module Sidecar
    # Code of the app that is not a job: it takes the place of one, because the app's pools are sized for the slots.
    #
    # The slot's thread waits for a thread of the errand's own: handlers may kill their thread, or leave values there.
    class Errand
      def initialize(&work)
        @work = work
        @lock = Mutex.new
        @ended = ConditionVariable.new
        @done = false
      end

      # Called by a slot's thread; never raises.
      def call
        thread = Thread.new(&@work)
        thread.report_on_exception = false
        thread.join
      rescue Exception => e # rubocop:disable Lint/RescueException
        @error = e
      ensure
        @lock.synchronize do
          @done = true
          @ended.broadcast
        end
      end

      # True if the work has ended within that time. Raises its error.
      def wait(seconds)
        deadline = monotonic + seconds
        @lock.synchronize do
          @ended.wait(@lock, [deadline - monotonic, 0].max) until @done || monotonic >= deadline
        end
        raise @error if @error
        @done
      end

      private

      def monotonic = Process.clock_gettime(Process::CLOCK_MONOTONIC)
    end
  end
end
