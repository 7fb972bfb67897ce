# frozen_string_literal: true

require "fiber"
require "monitor"
require "sidekiq_bridge/sidecar/sidekiq/launcher"

module SidekiqBridge
  module Sidecar
    # Tells whether a failed job has left anything in its thread that the next job could meet. Sidekiq replaces the thread
    # of each failed job, which costs as much as the failure itself. A thread without leftovers is as good as a new one.
    class ThreadLeftovers
      # Fiber-locals that Sidekiq and this gem set in each thread.
      OWN = %i[sidekiq_capsule sidekiq_tid sidekiq_context bridge_condition].freeze
      OWN_VARIABLES = [Launcher::RUNNER].freeze
      LOCKED = :bridge_locked

      # Ruby unlocks what a thread holds when the thread ends: a job that raises between `lock` and `unlock` relies on it.
      # #synchronize does not come here, because it unlocks by itself.
      marking = lambda do |*names|
        Module.new do
          names.each do |name|
            define_method(name) do
              ThreadLeftovers.note_lock
              super()
            end
          end
        end
      end
      MARKING = {
        Thread::Mutex => marking.call(:lock, :try_lock),
        Monitor => marking.call(:enter, :try_enter, :mon_enter, :mon_try_enter, :try_mon_enter)
      }.freeze

      # From now on a lock that a job takes by hand is a leftover.
      def self.watch_locks
        MARKING.each { |kind, part| kind.prepend(part) }
      end

      def self.note_lock
        thread = Thread.current
        thread.thread_variable_set(LOCKED, true) if thread.thread_variable?(Launcher::RUNNER)
      end

      # For the calling thread, before its first run.
      def initialize
        @thread = Thread.current
        @fiber = Fiber.current
        @settings = settings
      end

      def any? = locals? || attributes? || settings != @settings || Thread.pending_interrupt?

      private

      def locals?
        (@thread.keys - OWN).any? || (@thread.thread_variables - OWN_VARIABLES).any? || @thread[:sidekiq_context]&.any?
      end

      # Active Support keeps its state on the thread or on the fiber, by the app's `isolation_level`; OpenTelemetry on
      # the fiber.
      def attributes? = @thread.instance_variables.any? || @fiber.instance_variables.any?

      def settings
        [@thread.priority, @thread.name, @thread.report_on_exception, @thread.abort_on_exception, Fiber.scheduler]
      end
    end
  end
end
