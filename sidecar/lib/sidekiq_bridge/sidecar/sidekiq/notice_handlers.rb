# frozen_string_literal: true

require "sidekiq_bridge/sidecar/sidekiq/class_guard"
require "sidekiq_bridge/sidecar/sidekiq/job"
require "sidekiq_bridge/sidecar/sidekiq/notice"

module SidekiqBridge
  module Sidecar
    # Runs the app's code for jobs that ended outside of Ruby, as this Sidekiq's own retry code and processor would.
    class NoticeHandlers
      # Gives Sidekiq's JobRetry to us without its writes: the worker has written already.
      module Told
        # Returns whether the job belongs into the dead set, as its class says.
        def exhausted(instance, message, error)
          @kept = false
          retries_exhausted(instance, message, error)
          @kept || message["dead"] == false
        end

        # As JobRetry#global for a job without retries, and as DeadSet#kill.
        def killed(message, error)
          death_handlers.each do |handler|
            handler.call(message, error)
          rescue => e
            handle_exception(e, {context: "Error calling death handler", job: message})
          end
        end

        private

        def send_to_morgue(_message)
          @kept = true
        end

        def death_handlers = @adapter.options[:death_handlers]
      end

      def initialize(adapter, guard)
        @adapter = adapter
        @guard = guard
      end

      # Returns {"discard" => true} if the class's own hook discards the job.
      def death(notice)
        within(message = notice.dead_job) do
          next tell_handlers(notice, message) unless notice.death == "exhausted"
          new_retrier.exhausted(instance(notice), message, notice.error) ? {} : {"discard" => true}
        end
      end

      def error(notice)
        within({}) { new_retrier.handle_exception(*failure(notice)) }
        {}
      end

      private

      def new_retrier = @adapter.new_retrier.extend(Told)

      def tell_handlers(notice, message)
        new_retrier.killed(message, notice.error)
        {}
      end

      # In the app's executor, as a job.
      def within(message)
        @adapter.enter_thread
        ids = {class: message["wrapped"] || message["class"], jid: message["jid"]}.compact
        ::Sidekiq::Context.with(ids) { @adapter.in_app { yield } }
      end

      # The exception and its context as Sidekiq's processor passes them. For a payload that Ruby cannot parse it is the
      # parser's own exception.
      def failure(notice)
        job = notice.job
        return [notice.error, {context: "Internal exception!", job: job, jobstr: notice.payload}] if notice.errors == "malformed"
        [notice.error, @adapter.error_context({context: "Job raised exception", job: job}, notice.payload)]
      rescue => e
        [e, {context: "Invalid JSON for job", jobstr: notice.payload}]
      end

      # Nil for a class that Ruby does not know, or that this sidecar may not run: then only the death handlers run.
      def instance(notice)
        job = Job.new(notice.payload.dup)
        return if @guard.refusal_by_name(job) || @guard.refusal(job) { |name| Object.const_get(name) }
        Object.const_get(job.class_name).new.tap { |made| made.jid = job.jid }
      rescue StandardError, LoadError
        nil
      end
    end
  end
end
