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

      # A known delivery joins its run without a check of the body: a new delivery was checked. A block gets the outcome
      # and the delivery once.
      def deliver(message, &on_outcome)
        @executor.join(message.delivery, &on_outcome) || submit(message, &on_outcome)
      end

      # Builds the reply to a refused message of either transport.
      def refuse(error)
        @counters.refused(error.code)
        Replies.refused(error)
      end

      private

      def submit(message, &on_outcome)
        job = job_from(message)
        delivery = Delivery.new(message.delivery, job, claimed_at_ms: message.claimed_at_ms, recovered: message.recovered)
        @executor.submit(delivery, job, only_if_known: message.only_if_known?, &on_outcome)
      end

      def job_from(message)
        job = Job.new(message.body, queue: message.queue, correlation_id: message.correlation_id, trace: message.trace, python_lease: message.python_lease, tracked: message.tracked?, valued: message.valued?)
        reason = @guard.refusal_by_name(job)
        raise Refusals.refused(reason) if reason
        job
      end
    end
  end
end
