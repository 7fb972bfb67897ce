# frozen_string_literal: true

require "sidekiq_bridge/sidecar/sidekiq/job"

module SidekiqBridge
  module Sidecar
    # Decides which classes the sidecar performs: Sidekiq's jobs, and ActiveJobs inside ActiveJob's wrapper.
    #
    # The resolved class decides, not its name. One class has many names (Object::Foo, an alias), and a check of names
    # knows only some. The guard refuses names that take a detour.
    #
    # Returns the reason for a refusal, or nil. A class that does not exist is an ordinary failure, not a refusal.
    class ClassGuard
      PROBE = "SidekiqBridge::Probe" # does nothing; `bridge verify` must work beside any list

      # Ruby's own name of a class: an app may define another method `name`.
      NAME = Module.instance_method(:name)

      # Returns the reason for which `name` may not name the class `found`, or nil. A constant that holds the class is
      # valid: apps keep a job's old name (OldJob = NewJob), Sidekiq 8.1 its old wrapper. A path through another
      # constant is not valid.
      def self.detour(name, found)
        path = name.delete_prefix("::")
        own = NAME.bind_call(found)
        "#{name} is a detour to #{own || "a class without a name"}: push the job under the class's own name" unless own == path || constant?(path)
      end

      def self.constant?(path)
        path.split("::").reduce(Object) do |scope, name|
          return false unless scope.is_a?(Module) && scope.const_defined?(name, false)
          scope.const_get(name, false).tap { |found| return false if found.equal?(Object) }
        end
      end
      private_class_method :constant?

      # True for ActiveJob's wrappers, and an app's subclasses of them: their `perform` instantiates the class that a
      # payload names.
      def self.wrapper?(klass)
        return true if defined?(::ActiveJob::QueueAdapters::SidekiqAdapter::JobWrapper) && klass <= ::ActiveJob::QueueAdapters::SidekiqAdapter::JobWrapper
        defined?(::Sidekiq::ActiveJob::Wrapper) && klass <= ::Sidekiq::ActiveJob::Wrapper
      end

      def initialize(allowed: nil)
        @allowed = allowed&.to_set { |name| name.delete_prefix("::") }
        @performed = {} # classes that passed, by name
      end

      # Runs before any lookup of a constant.
      def refusal_by_name(job)
        return unless @allowed
        name = job.effective_class_name.to_s.delete_prefix("::")
        not_allowed(name) unless name == PROBE
      end

      # `lookup` finds a constant as this Sidekiq does, and raises NameError as it does.
      def refusal(job, &lookup)
        name = job.class_name
        return unless name.is_a?(String) # Sidekiq's own lookup raises TypeError: a failure like any other
        passed = @performed[name]
        return if passed && passed.equal?(yield(name))
        raise NameError, "wrong constant name #{name}" unless Job::CONSTANT_PATH.match?(name) # stays away from const_get
        klass = yield name
        return not_a_job(name, klass) unless sidekiq_job?(klass)
        refusal = self.class.detour(name, klass)
        return refusal || wrapped_refusal(job, &lookup) if refusal || self.class.wrapper?(klass)
        @performed[name] = klass
        nil
      end

      # True unless --allow leaves the class out.
      def allows?(name) = not_allowed(name).nil?

      private

      def sidekiq_job?(klass)
        klass.is_a?(Class) && klass.include?(defined?(::Sidekiq::Job) ? ::Sidekiq::Job : ::Sidekiq::Worker)
      end

      def not_a_job(name, klass)
        active = defined?(::ActiveJob::Base) && klass.is_a?(Class) && klass <= ::ActiveJob::Base
        return "#{name} is not a Sidekiq job class" unless active
        "#{name} is an ActiveJob, which Sidekiq runs only as Rails enqueues it: #{name}.perform_later"
      end

      # ActiveJob would call `new` on any constant that the payload names.
      def wrapped_refusal(job, &lookup)
        name = job.active_job_class_name
        return "#{job.class_name} carries no ActiveJob" unless name.is_a?(String) && Job::CONSTANT_PATH.match?(name)
        klass = find_quietly { yield name } or return
        return "#{name} is not an ActiveJob class" unless klass.is_a?(Class) && klass <= ::ActiveJob::Base
        self.class.detour(name, klass) || not_allowed(name)
      end

      def not_allowed(name)
        "#{name.inspect} is not on the list of allowed classes (--allow)" unless @allowed.nil? || @allowed.include?(name.delete_prefix("::"))
      end

      # If the wrapped class is missing, ActiveJob reports that when the wrapper performs.
      def find_quietly
        yield
      rescue NameError
        nil
      end
    end
  end
end
