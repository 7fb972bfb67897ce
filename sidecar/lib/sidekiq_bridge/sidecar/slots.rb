# frozen_string_literal: true

require "sidekiq_bridge/sidecar/interrupts"

module SidekiqBridge
  module Sidecar
    # The threads that run jobs. However a job ends, its slot stays: a job that kills its own thread gets a new thread
    # for the slot, which also gives the lost run its outcome.
    class Slots
      attr_reader :size

      # `new_runner` makes the object that performs runs, one for each thread as in Sidekiq: #call(run) and
      # #call_killed(run) both return an outcome. `on_finish` gets each run with its outcome.
      def initialize(size, new_runner:, on_finish:)
        @size = size
        @new_runner = new_runner
        @on_finish = on_finish
        @queue = Queue.new
        @threads = {}
        @lock = Mutex.new
      end

      def start
        size.times { |index| spawn(index) }
      end

      def <<(run)
        @queue << run
      end

      # Lets idle threads end; busy ones end after their job.
      def close
        @queue.close
      end

      def join(seconds)
        deadline = Process.clock_gettime(Process::CLOCK_MONOTONIC) + seconds
        threads = @lock.synchronize { @threads.values }
        threads.each { |thread| thread.join([deadline - Process.clock_gettime(Process::CLOCK_MONOTONIC), 0].max) }
      end

      private

      def spawn(index, orphan = nil)
        thread = Thread.new { Interrupts.closed { work(index, orphan) } }
        thread.name = "bridge.slot-#{index}"
        thread.report_on_exception = true
        @lock.synchronize { @threads[index] = thread }
      end

      def work(index, orphan)
        current = nil
        runner = @new_runner.call
        @on_finish.call(orphan, runner.call_killed(orphan)) if orphan
        while (current = @queue.pop)
          @on_finish.call(current, runner.call(current))
          current = nil
        end
      ensure
        # Reached with a run in hand only when the thread was killed under it.
        spawn(index, current) if current
      end
    end
  end
end
