# frozen_string_literal: true

require "sidekiq_bridge/sidecar/execution/run_queue"
require "sidekiq_bridge/sidecar/sidekiq/outcome"
require "sidekiq_bridge/sidecar/sidekiq/thread_interrupts"
require "sidekiq_bridge/sidecar/sidekiq/version_adapter"

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
        @queue = RunQueue.new
      end

      def start
        size.times { |index| spawn(index) }
      end

      def <<(run)
        @queue << run
      end

      def backlog? = !@queue.empty?

      # Lets idle threads end; busy ones end after their job.
      def close
        @queue.close
      end

      private

      def spawn(index, orphan = nil)
        thread = Thread.new { Interrupts.closed { work(index, orphan) } }
        thread.name = "bridge.slot-#{index}"
      end

      # Leaves by the end of the queue, or because the thread was killed, mostly by the job it ran.
      def work(index, orphan)
        current = orphan
        runner = @new_runner.call
        @on_finish.call(orphan, runner.call_killed(orphan)) if orphan
        while (current = @queue.pop)
          @on_finish.call(current, runner.call(current))
        end
        closed = true
      ensure
        replace(index, current, orphan) unless closed
      end

      # A run that has killed two threads (the second in its own retry hooks) gets no third.
      def replace(index, current, orphan)
        return spawn(index, current) unless current && current.equal?(orphan)
        @on_finish.call(current, Outcome.killed(VersionAdapter.current.dead_limits))
        spawn(index)
      rescue ThreadError
        nil # no threads any more: the process is ending
      end
    end
  end
end
