# frozen_string_literal: true

require "sidekiq_bridge/sidecar/sidekiq/version_adapter/seven"

module SidekiqBridge
  module Sidecar
    class VersionAdapter
      # Sidekiq 8: integer milliseconds, another jitter, threads of lower priority.
      class Eight < Seven
        class Retrier < AskingRetrier
          private

          def jitter(count) = rand(10 * (count + 1))
        end

        def timestamps = "milliseconds"

        def now = Process.clock_gettime(Process::CLOCK_REALTIME, :millisecond)

        def metrics_family = "8"

        def enter_thread
          super
          Thread.current.priority = options.thread_priority || ::Sidekiq::DEFAULT_THREAD_PRIORITY
        end

        private

        def make_retrier = Retrier.new(options.default_capsule)
      end
    end
  end
end
