# frozen_string_literal: true

require "sidekiq_bridge/sidecar/sidekiq/job"

module SidekiqBridge
  module Sidecar
    # Decides which classes may be performed: Sidekiq's jobs, and ActiveJobs inside ActiveJob's wrapper.
    #
    # The resolved class decides, not its name: one class has many names (Object::Foo, an alias), and a check of names
    # misses all but those it knows. Names that take a detour are refused.
    #
    # Returns the reason of a refusal, or nil. A class that does not exist is an ordinary failure, not a refusal.
    class ClassGuard
      PROBE = "SidekiqBridge::Probe" # does nothing; `bridge verify` must work beside any list

      # Ruby's own answer: a class may define `name` as it likes.
      NAME = Module.instance_method(:name)

      # Why `name` may not stand for `found`, or nil. A constant that holds the class is good: apps keep the old name of
      # a job so (OldJob = NewJob), and Sidekiq 8.1 its old wrapper. A way to it through another constant is not.
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

      def initialize(allowed: nil)
        @allowed = allowed&.to_set { |name| name.delete_prefix("::") }
      end

      # Before anything is constantized.
      def refusal_by_name(job)
        return unless @allowed
        name = job.effective_class_name.to_s.delete_prefix("::")
        not_allowed(name) unless name == PROBE
      end

      # `lookup` finds a constant as this Sidekiq would, and raises NameError as it would.
      def refusal(job, &lookup)
        name = job.class_name
        return unless name.is_a?(String) # Sidekiq's own lookup raises TypeError: a failure like any other
        raise NameError, "wrong constant name #{name}" unless Job::CONSTANT_PATH.match?(name) # stays away from const_get
        klass = yield name
        return not_a_job(name, klass) unless sidekiq_job?(klass)
        self.class.detour(name, klass) || (wrapped_refusal(job, &lookup) if wrapper?(klass))
      end

      private

      def sidekiq_job?(klass)
        klass.is_a?(Class) && klass.include?(defined?(::Sidekiq::Job) ? ::Sidekiq::Job : ::Sidekiq::Worker)
      end

      def not_a_job(name, klass)
        active = defined?(::ActiveJob::Base) && klass.is_a?(Class) && klass <= ::ActiveJob::Base
        return "#{name} is not a Sidekiq job class" unless active
        "#{name} is an ActiveJob, which Sidekiq runs only as Rails enqueues it: #{name}.perform_later"
      end

      # ActiveJob's wrappers, and what an app derives from them: their `perform` makes the class that a payload names.
      def wrapper?(klass)
        return true if defined?(::ActiveJob::QueueAdapters::SidekiqAdapter::JobWrapper) && klass <= ::ActiveJob::QueueAdapters::SidekiqAdapter::JobWrapper
        defined?(::Sidekiq::ActiveJob::Wrapper) && klass <= ::Sidekiq::ActiveJob::Wrapper
      end

      # ActiveJob would call `new` on any constant that is named there.
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

      # Where the wrapped class is missing, ActiveJob says so in its own words when the wrapper performs.
      def find_quietly
        yield
      rescue NameError
        nil
      end
    end
  end
end
