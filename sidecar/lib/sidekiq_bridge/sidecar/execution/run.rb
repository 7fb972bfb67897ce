# frozen_string_literal: true

require "sidekiq_bridge/sidecar/execution/ended_run"
require "sidekiq_bridge/sidecar/sidekiq/outcome"
require "sidekiq_bridge/sidecar/sidekiq/thread_interrupts"

module SidekiqBridge
  module Sidecar
    # One execution of one payload. The slot's thread runs it; HTTP threads wait for its outcome or ask it to stop.
    # Several deliveries may share it (a join after a recovery).
    class Run
      # All runs share one lock, since threads hold it briefly. A lock for each run would take most of a record's
      # memory.
      LOCK = Mutex.new

      attr_reader :job, :outcome, :duration_ms, :instance, :deliveries, :ended

      def initialize(job)
        @job = job
        @deliveries = []
        @listeners = nil # pairs with their deliveries
        @finished = nil  # a condition, created by the first waiting thread
        @outcome = @thread = @pending = @duration_ms = @ended = nil
        @checkpoint = @cancelled = @told_to_stop = false
      end

      # Adds a delivery that shares this run.
      def carry(delivery)
        @deliveries << delivery
      end

      # True if this worker waits for the run. Another worker may have taken it over.
      def of?(identity) = deliveries.any? { |delivery| !delivery.superseded? && delivery.identity == identity }

      # -- the slot's side

      def started
        @started_at = monotonic
      end

      # Sets the outcome at the time `now` and wakes the waiting threads. It drops the job: a record must not keep its payload.
      def settle(outcome, now)
        @duration_ms = ((now - (@started_at || now)) * 1000).round(3)
        @ended = EndedRun.new(outcome, @duration_ms)
        LOCK.synchronize do
          @outcome = outcome
          @job = @instance = nil
          @finished&.broadcast
        end
      end

      # Calls the listeners. Separate from #settle, which runs under the executor's lock.
      def notify
        listeners = LOCK.synchronize { @listeners.tap { @listeners = nil } }
        listeners&.each { |delivery, listener| listener.call(@outcome, delivery) }
      end

      # Yields with the thread open to interrupts; Sidekiq calls it with the instance that is about to perform.
      def interruptible(instance)
        open_to_interrupts(instance)
        Interrupts.open { yield }
      ensure
        close_to_interrupts
      end

      def stopping? = @checkpoint

      def cancelled? = @cancelled

      # True if the sidecar threw Sidekiq::Shutdown into the job, or asked it to stop and the job raised that itself: it is
      # then not the job's own error.
      def told_to_stop? = @told_to_stop || @checkpoint

      # -- Python code, in a PythonRun only

      def python? = false

      def asks? = false

      def body_for(_delivery) = nil

      def performed(_ending) = nil

      # A number of retries that the Python code names.
      def retry_limit = nil

      def heard = nil

      # -- the other threads' side

      def finished? = !@outcome.nil?

      # True if the run ended but its job did not: such a record must not keep the job from running again.
      def given_back? = @outcome&.given_back? || false

      # Calls the listener with the outcome: at once, or later on the slot's thread. Its #call must be short.
      def on_finish(delivery, listener)
        done = LOCK.synchronize do
          outcome = delivery.superseded? ? Outcome.superseded : @outcome
          (@listeners ||= []) << [delivery, listener] unless outcome
          outcome
        end
        listener.call(done, delivery) if done
      end

      # Returns the outcome, or nil when `seconds` have passed or the block says that waiting is pointless.
      def wait(seconds)
        deadline = monotonic + seconds
        LOCK.synchronize do
          until @outcome || (block_given? && yield)
            left = deadline - monotonic
            break if left <= 0
            (@finished ||= ConditionVariable.new).wait(LOCK, left)
          end
          @outcome
        end
      end

      # Wakes the threads that wait for a superseded delivery, and tells its listeners.
      def dismiss(delivery)
        dismissed = LOCK.synchronize do
          @finished&.broadcast
          own, @listeners = (@listeners || []).partition { |of, _| of.equal?(delivery) }
          own
        end
        dismissed.each { |_, listener| listener.call(Outcome.superseded, delivery) }
      end

      # Asks a job that knows checkpoints to stop at its next one; other jobs go on.
      def request_checkpoint
        @checkpoint = true
      end

      # Asks any job to stop: an iterable job at a checkpoint, another one at once.
      def interrupt
        LOCK.synchronize do
          @checkpoint = true
          throw_in(::Sidekiq::Shutdown.new("interrupted by the worker")) unless iterable?
        end
      end

      def terminate
        LOCK.synchronize { throw_in(::Sidekiq::Shutdown.new("the sidecar is going down")) }
      end

      def cancel(exception)
        LOCK.synchronize do
          @cancelled = true if exception.is_a?(Cancelled)
          throw_in(exception)
        end
      end

      private

      def throw_in(exception)
        return if @outcome
        @told_to_stop = true if exception.is_a?(::Sidekiq::Shutdown)
        @thread ? @thread.raise(exception) : @pending = exception
      end

      def open_to_interrupts(instance)
        LOCK.synchronize do
          @instance = instance
          @pending = nil if @pending.is_a?(::Sidekiq::Shutdown) && @checkpoint && iterable?
          raise @pending if @pending
          @thread = Thread.current
        end
      end

      def close_to_interrupts
        LOCK.synchronize { @thread = nil }
        Interrupts.discard_late
      end

      def iterable?
        defined?(::Sidekiq::Job::Iterable) && @instance.is_a?(::Sidekiq::Job::Iterable)
      end

      def monotonic = Process.clock_gettime(Process::CLOCK_MONOTONIC)
    end
  end
end
