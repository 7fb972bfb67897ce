# frozen_string_literal: true

require "sidekiq_bridge/sidecar/execution/delivery"
require "sidekiq_bridge/sidecar/execution/replies"
require "sidekiq_bridge/sidecar/sidekiq/job"

module SidekiqBridge
  module Sidecar
    # Passes jobs from the transports to the executor. A message is a Request of HTTP or a Frame of a stream.
    class Dispatcher
      def initialize(executor:, guard:, counters:)
        @executor = executor
        @guard = guard
        @counters = counters
      end

      # A known delivery joins its run without a check of the body: a new delivery was checked. The listener's #call gets
      # the outcome and the delivery once.
      def deliver(message, listener = nil)
        @executor.join(message.identity, message.token, listener) || submit(message, listener)
      end

      # Builds the reply to a refused message of either transport.
      def refuse(error)
        @counters.refused(error.code)
        Replies.refused(error)
      end

      private

      def submit(message, listener)
        job = job_from(message)
        delivery = Delivery.new(message.identity, message.token, job, message.claimed_at_ms, message.recovered)
        @executor.submit(delivery, job, listener, only_if_known: message.only_if_known?)
      end

      def job_from(message)
        job = message.plain? ? Job.new(message.body, message.queue) : job_with_wishes(message)
        reason = @guard.refusal_by_name(job)
        raise Refusals.refused(reason) if reason
        job
      end

      def job_with_wishes(message)
        Job.new(message.body, message.queue, correlation_id: message.correlation_id, trace: message.trace, python_lease: message.python_lease,
          tracked: message.tracked?, valued: message.valued?)
      end
    end
  end
end
