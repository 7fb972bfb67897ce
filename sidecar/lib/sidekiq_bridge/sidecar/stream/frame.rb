# frozen_string_literal: true

require "uri"
require "sidekiq_bridge/sidecar/errors"
require "sidekiq_bridge/sidecar/percent"
require "sidekiq_bridge/sidecar/sidekiq/trace_context"

module SidekiqBridge
  module Sidecar
    # One job or probe from a stream; Dispatcher treats it like a Request, and its stream gets the outcome.
    class Frame
      TRACK = "track"
      VALUE = "value"

      attr_reader :id, :identity, :token, :claimed_at_ms
      attr_writer :body, :stream

      # The number of times that a worker recovered this job as an orphaned job.
      attr_reader :recovered

      # A frame without an identity is a probe. `limit` is set for a larger body, which the parser discards. `report` says
      # whether the worker wants what the job returns, `trace` holds the trace headers.
      def initialize(id, identity = nil, token = nil, claimed_at_ms = nil, recovered = 0, queue = nil, limit = nil, report = nil, trace = nil)
        @id = id
        @identity = identity
        @token = token
        @claimed_at_ms = claimed_at_ms
        @recovered = recovered
        @queue = queue
        @limit = limit
        @report = report
        @trace = trace
      end

      def probe? = @identity.nil?

      # True for a job of which the worker wants nothing but its end.
      def plain? = @report.nil? && @trace.nil?

      def delivery = "#{@identity}/#{@token}"

      def too_large? = !@limit.nil?

      def only_if_known? = false

      # True if the worker wants what the job returns.
      def tracked? = @report == TRACK

      # True if the worker wants what the job returns, and the job is not tracked.
      def valued? = @report == VALUE

      def queue = @queue.include?("%") ? Percent.decode(@queue) : @queue

      def body = @body || raise(Refusals.too_large(@limit))

      # The payload holds the correlation id.
      def correlation_id = nil

      # A job with Python code comes as a request: the worker's thread waits for it anyway.
      def python_lease = nil

      # W3C's trace headers, encoded as a Web form.
      def trace
        return unless @trace
        found = URI.decode_www_form(@trace).to_h.slice(*TraceContext::HEADERS)
        found.transform_values(&:scrub) unless found.empty?
      rescue ArgumentError
        nil # invalid: the job runs without trace headers
      end

      # The listener of its delivery.
      def call(outcome, delivery) = @stream.settled(@id, outcome, delivery)
    end
  end
end
