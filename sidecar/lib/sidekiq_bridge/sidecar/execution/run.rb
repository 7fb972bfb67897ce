# frozen_string_literal: true

require "sidekiq_bridge/sidecar/execution/ended_run"
require "sidekiq_bridge/sidecar/sidekiq/outcome"
require "sidekiq_bridge/sidecar/sidekiq/thread_interrupts"

module SidekiqBridge
  module Sidecar
    # One execution of one payload. The slot's thread runs it, HTTP threads wait for its outcome or ask it to stop;
    # several deliveries may share it (a join after a recovery).
    class Run
      # One for all runs, since none holds it for long: one for each would be most of what a record keeps.
      LOCK = Mutex.new

      attr_reader :job, :outcome, :duration_ms, :instance, :deliveries, :ended

      def initialize(job)
        @job = job
        @deliveries = []
        @finished = nil  # a condition, once somebody waits
        @outcome = @thread = @pending = @duration_ms = @ended = nil
        @checkpoint = @cancelled = @told_to_stop = false
      end

      # The delivery takes part in this run.
      def carry(delivery)
        @deliveries << delivery
      end

      # -- the slot's side

      def started
        @started_at = monotonic
      end

      # Sets the outcome and wakes who waits for it. The job itself is forgotten: a record must not keep its payload.
      def settle(outcome)
        @duration_ms = ((monotonic - (@started_at || monotonic)) * 1000).round(3)
        @ended = EndedRun.new(outcome, @duration_ms)
        LOCK.synchronize do
          @outcome = outcome
          @job = @instance = nil
          @finished&.broadcast
        end
      end

      # Tells who asked to be told. Apart from #settle, which runs under the executor's lock.
      def notify
        deliveries.each { |delivery| tell(delivery, @outcome) }
      end

      # Yields with the thread open to interrupts; called with the instance that is about to perform.
      def interruptible(instance)
        open_to_interrupts(instance)
        Interrupts.open { yield }
      ensure
        close_to_interrupts
      end

      def stopping? = @checkpoint

      def cancelled? = @cancelled

      # Whether Sidekiq::Shutdown was thrown into the job, so that it is no error of its own.
      def told_to_stop? = @told_to_stop

      # -- the other threads' side

      def finished? = !@outcome.nil?

      # Whether it ended without an end of the job, so that its record is no reason not to run the job again.
      def given_back? = @outcome&.status == "shutdown"

      # Calls the block with the outcome, at once if there is one: on the slot's thread otherwise, so it must be short.
      def on_finish(delivery, &listener)
        done = LOCK.synchronize do
          outcome = delivery.superseded? ? Outcome.superseded : @outcome
          (delivery.listeners ||= []) << listener unless outcome
          outcome
        end
        listener.call(done, delivery) if done
      end

      # The outcome, or nil when `seconds` have passed or the block says that waiting is pointless.
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

      # Lets those go who wait for a delivery that was superseded.
      def dismiss(delivery)
        LOCK.synchronize { @finished&.broadcast }
        tell(delivery, Outcome.superseded)
      end

      # Asks an iterable job to stop at its next checkpoint; others do not notice.
      def request_checkpoint
        @checkpoint = true
      end

      # Asks any job to stop: at a checkpoint if it has such, else at once.
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

      def tell(delivery, outcome)
        listeners = LOCK.synchronize { delivery.listeners.tap { delivery.listeners = nil } }
        listeners&.each { |listener| listener.call(outcome, delivery) }
      end

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
