# frozen_string_literal: true

require "sidekiq_bridge/sidecar/sidekiq/outcome"

module SidekiqBridge
  module Sidecar
    # Asks sidekiq-throttled before a run. The gem asks in Sidekiq's fetcher, which a sidecar lacks. A job over a limit goes back
    # by the gem's own rule, and the worker writes it: the job is in one place at each moment.
    module Throttling
      # Sidekiq's unit of work, as the gem's rule sees it. It notes where the job goes.
      class Work
        attr_reader :job, :target, :seconds
        attr_accessor :queue

        def initialize(payload, queue_name)
          @job = payload
          @queue = "queue:#{queue_name}"
          @target = queue_name
          @seconds = nil
        end

        def queue_name = @queue.delete_prefix("queue:")

        def go(target, seconds = nil)
          @target = target.to_s.delete_prefix("queue:")
          @seconds = seconds
        end

        def acknowledge = nil

        def requeue = nil
      end

      # In front of the gem's Strategy: it decides where a job goes, and writes nothing.
      module Noted
        private

        def re_enqueue_throttled(work, target) = work.is_a?(Work) ? work.go(target) : super

        def reschedule_throttled(work, target) = work.is_a?(Work) ? work.go(target, retry_in(work)) : super
      end

      class << self
        # Call it once the app has loaded.
        def install
          @gem = (::Sidekiq::Throttled if defined?(::Sidekiq::Throttled) && ::Sidekiq::Throttled.respond_to?(:throttled?))
          strategy = @gem && defined?(@gem::Strategy) && @gem::Strategy
          @noted = strategy && %i[re_enqueue_throttled reschedule_throttled retry_in].all? { |name| strategy.private_method_defined?(name) }
          strategy.prepend(Noted) if @noted && !strategy.include?(Noted)
        end

        # Returns the outcome of a job that may not run now; nil for one that may. `job` is a Job.
        def outcome(job)
          return unless @gem
          return admit(job) unless @gem.throttled?(job.payload)
          work = Work.new(job.payload, job.queue)
          follow_rule(work)
          Outcome.postponed(work.target, work.seconds, cooldown(work.queue))
        end

        private

        # A release without a Strategy of this kind pushes the job behind its queue.
        def follow_rule(work)
          @gem.requeue_throttled(work) if @noted
        rescue StandardError => e
          ::Sidekiq.logger.warn { "sidekiq-throttled cannot tell when a job may run (#{e.class}): it goes behind its queue" }
          work.go(work.queue)
        end

        def admit(job)
          @gem.cooldown&.notify_admitted("queue:#{job.queue}") if @gem.respond_to?(:cooldown)
          nil
        end

        # Seconds for which the gem would not look into this queue; nil while it would.
        def cooldown(queue)
          return unless @gem.respond_to?(:cooldown) && @gem.cooldown
          @gem.cooldown.notify_throttled(queue)
          @gem.config.cooldown_period if @gem.cooldown.queues.include?(queue)
        end
      end
    end
  end
end
