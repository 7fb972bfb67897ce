# frozen_string_literal: true

require "sidekiq_bridge/sidecar/logs/log_text"

module SidekiqBridge
  module Sidecar
    # Ties the lines and spans of one job together in worker, sidecar and Rails, by the rules of
    # bridge/sidekiq/payload/trace_context.py.
    module TraceContext
      # W3C's names.
      HEADERS = %w[traceparent tracestate baggage].freeze
      TRACEPARENT = /\A\h{2}-(\h{32})-\h{16}-\h{2}\z/
      LONGEST_ID = 200

      module_function

      # Returns the payload's own id, else the request id from CurrentAttributes; nil if the caller should use the jid.
      def correlation_id(hash)
        found = hash["correlation_id"] || (hash["cattr"] && attributes(hash["cattr"])["request_id"])
        found[0, LONGEST_ID] if found.is_a?(String) && !found.empty?
      end

      # `trace` are the headers that came with the job, which take precedence over its payload.
      def trace_id(hash, trace)
        found = trace ? trace["traceparent"] : hash["traceparent"]
        found[TRACEPARENT, 1] if found.is_a?(String)
      end

      # Runs the block with the job's ids before each line of the Rails log. With OpenTelemetry loaded, the block also
      # runs in the trace of the job's worker.
      def with(job, &block)
        job.trace ? in_trace(job.trace) { tagged(job, &block) } : tagged(job, &block)
      end

      def tagged(job, &block)
        return yield unless defined?(::Rails) && ::Rails.respond_to?(:logger) && ::Rails.logger.respond_to?(:tagged)
        ::Rails.logger.tagged(*tags(job), &block)
      end

      def tags(job)
        correlation_id = job.correlation_id unless job.correlation_id == job.jid
        {jid: job.jid, correlation_id: correlation_id, trace_id: job.trace_id}.compact.map { |name, value| "#{name}=#{LogText.word(value)}" }
      end

      def in_trace(trace, &block)
        return yield unless defined?(::OpenTelemetry) && ::OpenTelemetry.respond_to?(:propagation)
        ::OpenTelemetry::Context.with_current(::OpenTelemetry.propagation.extract(trace), &block)
      end

      # CurrentAttributes are an object with Sidekiq 6 and 7, a list of pairs with 8.
      def attributes(found)
        found.is_a?(Hash) ? found : found.to_h
      rescue TypeError, NoMethodError, ArgumentError
        {}
      end
    end
  end
end
