# frozen_string_literal: true

require "sidekiq_bridge/sidecar/execution/errand"
require "sidekiq_bridge/sidecar/execution/run_queue"
require "sidekiq_bridge/sidecar/sidekiq/forks"
require "sidekiq_bridge/sidecar/sidekiq/outcome"
require "sidekiq_bridge/sidecar/sidekiq/thread_interrupts"
require "sidekiq_bridge/sidecar/sidekiq/thread_leftovers"
require "sidekiq_bridge/sidecar/sidekiq/version_adapter"

module SidekiqBridge
  module Sidecar
    # The threads that run jobs and read streams: one for each slot, and one for each stream. A slot outlives a thread that
    # its job killed. The slot starts a new thread, which also gives the lost run its outcome.
    class Slots
      attr_reader :size

      # `new_runner` makes the object that performs runs, one for each thread as in Sidekiq: its #call(run) and
      # #call_killed(run) return an outcome. `on_finish` gets each run with its outcome.
      def initialize(size, new_runner:, on_finish:)
        @size = size
        @new_runner = new_runner
        @on_finish = on_finish
        @queue = RunQueue.new(size)
      end

      def start
        ThreadLeftovers.watch_locks
        size.times { |index| spawn(index) }
      end

      def <<(run)
        @queue << run
      end

      # Reads a stream to its end: calls its #read again and again, on any thread, until it returns false.
      def read(stream)
        spawn("stream")
        @queue.read(stream)
      end

      def backlog? = !@queue.empty?

      # Keeps the replies of this writer for a moment, if others follow at once.
      def hold(writer) = @queue.hold(writer)

      # Ends idle threads now and busy ones after their job.
      def close
        @queue.close
      end

      private

      def spawn(index, orphan = nil)
        Thread.new do
          Thread.current.name = "bridge.slot-#{index}" # from outside it would cost a file in /proc
          Interrupts.closed { work(index, orphan) }
        end
      end

      # The thread ends at the end of the queue, at the end of a stream, after a failed job that has left something in it, or
      # because its job killed it.
      def work(index, orphan)
        current = orphan
        runner = @new_runner.call
        leftovers = ThreadLeftovers.new
        spent = orphan && finish(orphan, runner.call_killed(orphan), leftovers)
        until spent
          current = nil # it has its outcome, whatever ends this thread
          current = @queue.pop
          current = read_on(current) while current.respond_to?(:read)
          break unless current
          spent = perform(current, runner, leftovers)
        end
        ended = true
        respawn(index) if spent
      ensure
        unless Forks.child?
          @queue.leave
          replace(index, current, orphan) unless ended
        end
      end

      # Returns what the thread does next: mostly, it runs what it has read. Nil at the end of the stream.
      def read_on(stream)
        @queue.read_on(stream) if stream.read
      end

      # True if the thread must not run another job.
      def perform(item, runner, leftovers)
        return item.call && false if item.is_a?(Errand)
        finish(item, runner.call(item), leftovers)
      end

      # True if the thread must not run another job: what a failed job left in its locals (Time.zone, a tenant) must not
      # reach the next one.
      def finish(run, outcome, leftovers)
        Forks.finish if Forks.child?
        @on_finish.call(run, outcome)
        outcome.failed? && leftovers.any?
      end

      def respawn(index)
        spawn(index)
      rescue ThreadError
        nil # the process is ending and refuses new threads
      end

      # A run that killed two threads (the second in its own retry hooks) does not get a third.
      def replace(index, current, orphan)
        current = nil if current.respond_to?(:read) # a killed reader has ended its stream
        return spawn(index, current) unless current && current.equal?(orphan)
        @on_finish.call(current, Outcome.killed(VersionAdapter.current.dead_limits))
        spawn(index)
      rescue ThreadError
        nil # as above
      end
    end
  end
end
