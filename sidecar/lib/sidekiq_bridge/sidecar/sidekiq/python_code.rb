# frozen_string_literal: true

require "sidekiq_bridge/sidecar/sidekiq/class_guard"
require "sidekiq_bridge/sidecar/sidekiq/job"

module SidekiqBridge
  # The class of jobs that exist in Python alone, for middleware. The app may define a class of that name instead.
  class PythonJob
    include(defined?(::Sidekiq::Job) ? ::Sidekiq::Job : ::Sidekiq::Worker)

    def perform(*) = raise(NotImplementedError, "#{self.class.name} is written in Python")
  end

  module Sidecar
    # Puts a job's Python code in the place of its `perform`. The callbacks of an ActiveJob, its retry_on and discard_on
    # run in Ruby.
    module PythonCode
      KEY = :bridge_python_code

      # The code of one job. Its callbacks may perform other jobs on the same thread (`perform_now`), which run in Ruby.
      Code = Struct.new(:class_name, :jid, :body) do
        def of?(job) = job.class.name == class_name && job.provider_job_id == jid
      end

      # Stands before the `perform` of an ActiveJob class.
      module Performed
        ruby2_keywords def perform(*arguments)
          code = Thread.current[KEY]
          code&.of?(self) ? code.body.call : super(*arguments)
        end
      end

      module_function

      # Performs `instance` through `run`. The block performs it as Sidekiq does, which an ActiveJob's wrapper needs.
      def perform(instance, run, changes, &as_sidekiq)
        return run.perform(changes) unless ClassGuard.wrapper?(instance.class)
        with(Code.new(run.job.active_job_class_name.delete_prefix("::"), instance.jid, -> { run.perform(changes) }), &as_sidekiq)
      end

      def with(code)
        Object.const_get(code.class_name).prepend(Performed)
        Thread.current[KEY] = code
        yield
      ensure
        Thread.current[KEY] = nil
      end

      # Defines the job's class if the app has none: middleware needs an instance.
      def define_placeholder(job)
        name = job.effective_class_name
        return unless name.is_a?(String) && Job::CONSTANT_PATH.match?(name) && missing?(name)
        *scopes, last = name.delete_prefix("::").split("::")
        scope = scopes.reduce(Object) { |outer, part| outer.const_defined?(part, false) ? outer.const_get(part, false) : outer.const_set(part, Module.new) }
        scope.const_set(last, Class.new(job.wrapper? ? ::ActiveJob::Base : PythonJob))
        ::Sidekiq.logger.info { "The app has no class #{name}: middleware sees a placeholder, because its code is in Python" }
      end

      # An error inside the class's own file is the job's, and not a missing class.
      def missing?(name)
        Object.const_get(name)
        false
      rescue NameError => e
        return false if defined?(::Zeitwerk::NameError) && e.is_a?(::Zeitwerk::NameError)
        name.split("::").include?(e.name.to_s) && e.receiver.is_a?(Module) && !e.receiver.const_defined?(e.name, false)
      end
    end
  end
end
