# frozen_string_literal: true

require "sidekiq_bridge/sidecar/sidekiq/launcher"

module SidekiqBridge
  module Sidecar
    # Some gems set a flag of their own at :quiet and let jobs read it. Such a flag is the process's, and a worker that
    # stops means its own jobs only. So these gems also ask the launcher, which answers for each job.
    module CheckpointGems
      # job-iteration, and maintenance_tasks on top of it. Its releases before these ask the launcher itself.
      JOB_ITERATION = %w[JobIteration::InterruptionAdapters::SidekiqAdapter JobIteration::Integrations::Sidekiq].freeze

      module JobIterationFlag
        def call(*) = Launcher.stopping? || super
      end

      # ActiveJob::Continuation asks the adapter.
      module ActiveJobFlag
        def stopping?(*) = Launcher.stopping? || (defined?(super) && super) || false
      end

      module_function

      # Runs after the app has loaded its gems.
      def install
        JOB_ITERATION.filter_map { |name| find(name) }.each { |flag| flag.singleton_class.prepend(JobIterationFlag) }
        active_job_adapter&.prepend(ActiveJobFlag)
      end

      # Looks inside each module only: JobIteration::Integrations::Sidekiq must not find Sidekiq itself.
      def find(name)
        name.split("::").reduce(Object) do |scope, part|
          return nil unless scope.const_defined?(part, false)
          scope.const_get(part, false)
        end
      end

      # Nil for an app without ActiveJob. ActiveJob loads the adapter when an app first names it.
      def active_job_adapter
        ::ActiveJob::QueueAdapters::SidekiqAdapter if defined?(::ActiveJob::QueueAdapters)
      rescue LoadError, NameError
        nil # this ActiveJob has no adapter for Sidekiq
      end
    end
  end
end
