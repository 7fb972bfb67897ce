# frozen_string_literal: true

module SidekiqBridge
  module Sidecar
    # Answers what gems and jobs ask `Sidekiq::CLI.instance.launcher`: whether to stop at the next checkpoint. Sidekiq's
    # own Launcher fetches jobs and writes a process row, so the sidecar never makes one.
    #
    # One sidecar serves many workers, so the answer is that of the job on the calling thread. Another thread gets the
    # answer of the whole sidecar.
    class Launcher
      RUNNER = :bridge_runner

      class << self
        # Gives Sidekiq's CLI a launcher. Gems find it there in every version.
        def install(launcher)
          ::Sidekiq::CLI.instance.launcher = launcher
        end

        # The calling thread performs its runs with this runner. A thread variable: a job may ask within a fiber.
        def runs_here(runner)
          Thread.current.thread_variable_set(RUNNER, runner)
        end

        # Answers for gems that keep their own flag.
        def stopping? = ::Sidekiq::CLI.instance.launcher&.stopping? || false
      end

      # `draining` says whether the sidecar takes no more jobs; `drain` makes it so.
      def initialize(draining:, drain:)
        @draining = draining
        @drain = drain
      end

      def stopping?
        @draining.call || Thread.current.thread_variable_get(RUNNER)&.stopping? || false
      end

      def quiet = @drain.call

      # Ends this process as TERM does.
      def stop = Process.kill("TERM", Process.pid)
    end
  end
end
