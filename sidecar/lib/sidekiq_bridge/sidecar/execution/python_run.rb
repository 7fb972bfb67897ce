# frozen_string_literal: true

require "json"
require "sidekiq_bridge/sidecar/execution/run"

module SidekiqBridge
  module Sidecar
    # A run whose code is in Python. Server middleware runs here; where the instance would perform, the slot's thread
    # waits until the worker has run the code and has reported its end.
    #
    # Middleware may yield more than once. Each time is a `turn`, so that a repeated report ends no later turn.
    class PythonRun < Run
      def initialize(job)
        super
        @lease_seconds = job.python_lease
        @turn = 0
        @asked = @ending = @retry_limit = nil
        @reported = ConditionVariable.new
      end

      # A delivery that takes this run over begins a new lease.
      def carry(delivery)
        super
        heard
      end

      # The worker reports that it runs the code. A worker that is silent for its lease has lost the job.
      def heard
        @heard_at = monotonic
      end

      attr_reader :retry_limit

      def python? = true

      # True while the worker has to run the code.
      def asks? = !@asked.nil? && @ending.nil?

      # Waits for the end of the Python code, and raises what the code raised. `changes` are those of middleware to the job.
      def perform(changes)
        text = JSON.generate(changes)[1..-2] # raises here, in the job, for values that JSON cannot hold
        ending = LOCK.synchronize do
          ask(text)
          await_end
        end
        @cancelled = true if ending.cancelled?
        @retry_limit = ending.retry_limit
        raise ending.error if ending.error
      ensure
        LOCK.synchronize { @asked = @ending = nil }
      end

      # The reply that asks the worker for the code; nil if the run waits for nothing.
      def body_for(delivery)
        LOCK.synchronize do
          %({"status":"body","jid":#{JSON.generate(delivery.jid)},"delivery":#{JSON.generate(delivery.id)},"turn":#{@turn},#{@asked}}) if asks?
        end
      end

      # The worker reports an end. A repeated report changes nothing.
      def performed(ending)
        LOCK.synchronize do
          next unless asks? && ending.turn == @turn
          @ending = ending
          @reported.signal
        end
      end

      private

      # -- under the lock

      def ask(text)
        @turn += 1
        @asked = text
        @ending = nil
        @finished&.broadcast
      end

      def await_end
        until @ending
          left = @heard_at + @lease_seconds - monotonic
          raise ::Sidekiq::Shutdown, "the worker has lost its lease" if left <= 0
          @reported.wait(LOCK, left)
        end
        @ending
      end

      # The class may be iterable: its checkpoints are in Ruby code that does not run.
      def iterable? = false
    end
  end
end
