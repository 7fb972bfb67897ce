# frozen_string_literal: true

require "sidekiq_bridge/results/current"
require "sidekiq_bridge/results/encoded"
require "sidekiq_bridge/results/store"

module SidekiqBridge
  module Sidecar
    # A run whose worker compares what the job returns with a shadow in Python. Nothing is stored.
    class ValuedRun
      # Performs the job, and keeps what it returns.
      def perform = @value = yield

      # Never raises: the job is done.
      def result = Results::Encoded.of(@value)
    end

    # A run whose worker wants to know what the job returns and how far it has come. The worker writes its end; the job
    # itself tells of its progress (SidekiqBridge.progress).
    class TrackedRun
      INFLIGHT = "bridge:inflight:"

      # The object that reports on a run; nil for most runs.
      def self.of(run)
        return if run.python?
        return new(run) if run.job.tracked?
        ValuedRun.new if run.job.valued?
      end

      attr_reader :jid
      attr_writer :value

      def initialize(run)
        @run = run
        @jid = run.job.jid.to_s
        @known = {"class" => run.job.effective_class_name.to_s, "language" => "ruby"}
      end

      # Performs the job, and keeps what it returns.
      def perform
        Results::Current.with(self) { @value = yield }
      end

      # Never raises: the job is done.
      def result
        Results::Encoded.of(@value).tap do |encoded|
          ::Sidekiq.logger.error { "jid=#{jid} is done, but its result is not stored: #{encoded.lost}. Return an id or a small object" } if encoded.lost
        end
      end

      # Stores progress, unless another worker has the job by now. The newest delivery names the worker.
      def tell(fields)
        delivery = @run.deliveries.last
        Results::Store.mark(jid, "running", @known.merge(fields), run: delivery.id, inflight: [INFLIGHT + delivery.identity, delivery.token.to_s])
      end
    end
  end
end
