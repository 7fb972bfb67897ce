# frozen_string_literal: true

require "sidekiq_bridge/sidecar/sidekiq/job"

module SidekiqBridge
  module Sidecar
    # Decides which classes may be performed: Sidekiq's jobs, ActiveJob's wrappers around an ActiveJob, nothing else.
    # Returns the reason of a refusal, or nil. A class that does not exist is no refusal but an ordinary failure.
    class ClassGuard
      PROBE = "SidekiqBridge::Probe" # does nothing; `bridge verify` must work beside any list

      def initialize(allowed: nil)
        @allowed = allowed&.to_set { |name| name.delete_prefix("::") }
      end

      # Before anything is constantized.
      def refusal_by_name(job)
        return unless @allowed
        name = job.effective_class_name.to_s.delete_prefix("::")
        return if name == PROBE
        "#{name.inspect} is not on the list of allowed classes (--allow)" unless @allowed.include?(name)
      end

      # `lookup` finds a constant as this Sidekiq would, and raises NameError as it would.
      def refusal(job, &lookup)
        return unless job.class_name.is_a?(String) # Sidekiq's own lookup raises TypeError: a failure like any other
        klass = yield constant_path(job.class_name)
        return "#{job.class_name} is not a Sidekiq job class" unless sidekiq_job?(klass)
        wrapped_refusal(job, &lookup) if job.wrapper?
      end

      private

      # A name that Ruby would not take either; refused here so that a clever one gets nowhere near const_get.
      def constant_path(name)
        return name if Job::CONSTANT_PATH.match?(name)
        raise NameError, "wrong constant name #{name}"
      end

      def sidekiq_job?(klass)
        klass.is_a?(Class) && klass.include?(defined?(::Sidekiq::Job) ? ::Sidekiq::Job : ::Sidekiq::Worker)
      end

      # ActiveJob would call `new` on any constant that is named there.
      def wrapped_refusal(job)
        name = job.active_job_class_name
        return "#{job.class_name} carries no ActiveJob" unless name.is_a?(String) && Job::CONSTANT_PATH.match?(name)
        klass = find_quietly { yield name }
        "#{name} is not an ActiveJob class" if klass && !(klass.is_a?(Class) && klass <= ::ActiveJob::Base)
      end

      # Where the wrapped class is missing, ActiveJob says so in its own words when the wrapper performs.
      def find_quietly
        yield
      rescue NameError
        nil
      end
    end
  end
end
