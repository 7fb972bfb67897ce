# frozen_string_literal: true

require "uri"
require "sidekiq_bridge/sidecar/errors"
require "sidekiq_bridge/sidecar/percent"
require "sidekiq_bridge/sidecar/sidekiq/trace_context"

module SidekiqBridge
  module Sidecar
    # One job or probe from a stream; Dispatcher treats it like a Request.
    class Frame
      TRACK = "track"
      VALUE = "value"

      attr_reader :id, :delivery, :claimed_at_ms
      attr_writer :body

      # A frame without a delivery is a probe. `limit` is set for a larger body, which the parser discards.
      def initialize(id, delivery = nil, claimed_at_ms = nil, recovered = 0, queue = nil, limit = nil, words = [])
        @id = id
        @delivery = delivery
        @claimed_at_ms = claimed_at_ms
        @recovered = recovered
        @queue = queue
        @limit = limit
        @tracked = words.first == TRACK
        @valued = words.first == VALUE
        @trace = (@tracked || @valued) ? words[1] : words.first
      end

      def probe? = @delivery.nil?

      def too_large? = !@limit.nil?

      # The number of times that a worker recovered this job as an orphaned job.
      def recovered = @recovered

      def only_if_known? = false

      # True if the worker wants what the job returns.
      def tracked? = @tracked

      # True if the worker wants what the job returns, and the job is not tracked.
      def valued? = @valued

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
    end
  end
end
