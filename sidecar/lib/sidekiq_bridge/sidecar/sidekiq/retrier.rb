# frozen_string_literal: true

require "sidekiq/job_retry"
require "sidekiq_bridge/sidecar/errors"
require "sidekiq_bridge/sidecar/logs/log_text"
require "sidekiq_bridge/sidecar/sidekiq/encodable"
require "sidekiq_bridge/sidecar/sidekiq/forks"

module SidekiqBridge
  module Sidecar
    # Sidekiq's retry rules without its writes: its own JobRetry decides, and this class leaves it before it writes to
    # Redis. The subclasses in version_adapter/ hold the differences between the versions.
    class Retrier < ::Sidekiq::JobRetry
      NONE = {"place" => "none"}.freeze
      # A hundred years in seconds; the worker accepts no longer delay.
      LONGEST_DELAY = 3_155_760_000
      # Fields that identify a job: the worker accepts no change of them from a run.
      NEVER_SET = %w[class args jid wrapped].freeze
      # The answer always names these fields, even with an unchanged value.
      SET_BY_SIDEKIQ = %w[queue error_message error_class retry_count].freeze

      # `adapter` is the VersionAdapter of the loaded Sidekiq.
      def equip(adapter:)
        @adapter = adapter
        self
      end

      def prepare(run)
        @run = run
        @decision = @message = nil
        @class_known = false
      end

      def decision = @decision || NONE

      # Sidekiq would lose a job whose retry code raises (for example a retry_for that is text): the dead set keeps it.
      def last_resort(error)
        @message ||= {"queue" => @run.job.queue}
        @message["error_message"] ||= message_of(error)
        @message["error_class"] ||= error.class.name
        dead(@message)
      end

      def message_of(error)
        exception_message(error).dup.force_encoding(Encoding::UTF_8).scrub
      end

      def global(jobstr, queue)
        job = @run.job
        ::Sidekiq::Context.add(:correlation_id, job.correlation_id) if job.correlation_id && job.correlation_id != job.jid
        ::Sidekiq::Context.add(:trace_id, job.trace_id) if job.trace_id
        super
      rescue ::Sidekiq::JobRetry::Handled => e
        keep_without_options(e.cause) unless @class_known
        raise
      end

      def local(instance, jobstr, queue)
        @class_known = true
        super { @run.interruptible(instance) { unless_cancelled { yield } } }
      end

      private

      # Sidekiq drops a failed job that has no `retry` and whose class it does not know (a payload without a class, a
      # push by hand): nothing says that this is meant.
      def keep_without_options(error)
        message = ::Sidekiq.load_json(@run.job.payload)
        return if @decision || !message["retry"].nil? || @run.cancelled?
        message.update("queue" => @run.job.queue, "error_message" => message_of(error), "error_class" => error.class.name,
          "failed_at" => @adapter.now, "retry_count" => 0)
        @decision = dead(message)
      end

      # Sidekiq does not retry a revoked job, whatever it raises: Handled tells Sidekiq that the job is settled. In a child
      # that the job forked, the end of the job's code is the end of the child.
      def unless_cancelled
        yield
        Forks.leave(@run) if Forks.child?
      rescue Exception => e # rubocop:disable Lint/RescueException
        Forks.leave(@run, e) if Forks.child?
        raise unless @run.cancelled?
        raise ::Sidekiq::JobRetry::Handled
      end

      # Runs Sidekiq's code with `message`; the code calls #retry_in_seconds, buries the job, or discards it.
      def deciding(message)
        @message = message
        @decision = nil
        lower_limit(message) if @run.retry_limit
        delay, source = catch(self) do
          yield
          nil
        end
        delay = delay&.clamp(0, LONGEST_DELAY)
        @decision = {"place" => "retry", "delay" => delay, "delay_source" => source, "fields" => fields(message)} if delay
      end

      # The Python task names a number of retries of its own: the lower one counts.
      def lower_limit(message)
        own = message["retry"]
        message["retry"] = own.is_a?(Integer) ? [own, @run.retry_limit].min : @run.retry_limit
      end

      # Called when Sidekiq has its delay and is about to write.
      def retry_in_seconds(delay, source)
        throw self, [delay, source]
      end

      def send_to_morgue(message)
        logger.info { "Adding dead #{LogText.word(message["class"])} job #{LogText.word(message["jid"])}" }
        @decision = dead(message)
      end

      def dead(message)
        {"place" => "dead", "fields" => fields(message), "dead_limits" => @adapter.dead_limits}
      end

      # Returns the fields that the retry code (or a hook it called) set, in its order.
      def fields(message)
        original = ::Sidekiq.load_json(@run.job.payload)
        message = message.merge(original.slice("retry")) if @run.retry_limit
        changed = message.select { |key, value| SET_BY_SIDEKIQ.include?(key) || !original.key?(key) || !original[key].eql?(value) }
        Encodable.of(changed).except(*NEVER_SET)
      end
    end
  end
end
