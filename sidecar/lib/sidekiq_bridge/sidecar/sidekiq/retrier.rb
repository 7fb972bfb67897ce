# frozen_string_literal: true

require "sidekiq/job_retry"
require "sidekiq_bridge/sidecar/errors"
require "sidekiq_bridge/sidecar/logs/log_text"

module SidekiqBridge
  module Sidecar
    # Sidekiq's retry rules, told instead of written: its own JobRetry decides, and is left at the very point where it
    # would write to Redis. What differs between the versions is in version_adapter/.
    class Retrier < ::Sidekiq::JobRetry
      NONE = {"place" => "none"}.freeze
      # Always named in the answer, even where the value was there before.
      # Seconds: a hundred years. The worker takes no longer delay for one.
      LONGEST_DELAY = 3_155_760_000
      # What a job is: the worker takes no change of it from a run.
      NEVER_SET = %w[class args jid wrapped].freeze
      SET_BY_SIDEKIQ = %w[queue error_message error_class retry_count].freeze

      # `adapter` is the VersionAdapter in use.
      def equip(adapter:)
        @adapter = adapter
        self
      end

      def prepare(run)
        @run = run
        @decision = @message = nil
      end

      def decision = @decision || NONE

      # Sidekiq would lose a job whose retry code raises (a retry_for that is text, say): the dead set keeps it.
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
      end

      def local(instance, jobstr, queue)
        super { @run.interruptible(instance) { unless_cancelled { yield } } }
      end

      private

      # Whatever a revoked job raises, it is not tried again: Handled tells Sidekiq that this is settled.
      def unless_cancelled
        yield
      rescue Exception # rubocop:disable Lint/RescueException
        raise unless @run.cancelled?
        raise ::Sidekiq::JobRetry::Handled
      end

      # Runs Sidekiq's code with `message`; it leaves by #retry_in_seconds, buries, or discards.
      def deciding(message)
        @message = message
        @decision = nil
        delay, source = catch(self) do
          yield
          nil
        end
        delay = delay&.clamp(0, LONGEST_DELAY)
        @decision = {"place" => "retry", "delay" => delay, "delay_source" => source, "fields" => fields(message)} if delay
      end

      # Called where Sidekiq has its delay and would write.
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

      # What the retry code (or a hook it called) set, in its order.
      def fields(message)
        original = ::Sidekiq.load_json(@run.job.payload)
        message.except(*NEVER_SET).select { |key, value| SET_BY_SIDEKIQ.include?(key) || !original.key?(key) || !original[key].eql?(value) }
      end
    end
  end
end
