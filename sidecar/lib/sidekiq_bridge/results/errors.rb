# frozen_string_literal: true

module SidekiqBridge
  # Base of the errors of SidekiqBridge::Result.get.
  class ResultError < StandardError; end

  # The time is over, and the job has not ended.
  class ResultTimeout < ResultError; end

  # The end of this job is written nowhere.
  class NotTracked < ResultError; end

  # Redis knows neither a result nor a job of this jid.
  class ResultUnknown < ResultError; end

  # Redis does not answer.
  class StoreUnavailable < ResultError; end

  # The job is done, and its result could not be stored.
  class ResultLost < ResultError; end

  # A person ended the job.
  class JobRevoked < ResultError; end

  # The job is dead. Each class of its error that this process does not know has a subclass with its name: logs and error
  # trackers see "ValueError", and `rescue SidekiqBridge::JobFailed` sees them all.
  class JobFailed < ResultError
    MOST_CLASSES = 1000
    @lock = Mutex.new
    @named = {}

    class << self
      # The exception with the class and the message of the job's own.
      def of(name, message)
        known = known_class(name)
        known ? made(known, message) : named(name).new(message)
      end

      private

      # The name comes from Redis: it loads nothing but what autoloads under a constant's name.
      def known_class(name)
        return unless /\A\p{Upper}\w*(?:::\p{Upper}\w*)*\z/.match?(name)
        found = Object.const_get(name)
        found if found.is_a?(Class) && found <= StandardError
      rescue NameError, LoadError
        nil
      end

      # Made without its `initialize`, which may want other arguments than a message.
      def made(known, message)
        error = known.allocate
        error.define_singleton_method(:message) { message }
        error.define_singleton_method(:to_s) { message }
        error
      rescue TypeError
        named(known.name).new(message)
      end

      def named(name)
        @lock.synchronize { @named[name] ||= (@named.size < MOST_CLASSES) ? subclass(name) : JobFailed }
      end

      def subclass(name)
        Class.new(JobFailed) { %i[name to_s inspect].each { |method| define_singleton_method(method) { name } } }
      end
    end
  end
end
