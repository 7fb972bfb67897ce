# frozen_string_literal: true

require "uri"
require "sidekiq_bridge/sidecar/errors"
require "sidekiq_bridge/sidecar/percent"
require "sidekiq_bridge/sidecar/sidekiq/trace_context"

module SidekiqBridge
  module Sidecar
    # One job or probe that came over a stream; to Dispatcher, what a Request is.
    class Frame
      attr_reader :id, :delivery, :claimed_at_ms
      attr_writer :body

      # No delivery: a probe. `limit` is given for a body that is larger and not kept.
      def initialize(id, delivery = nil, claimed_at_ms = nil, recovered = 0, queue = nil, limit = nil, trace = nil)
        @id = id
        @delivery = delivery
        @claimed_at_ms = claimed_at_ms
        @recovered = recovered
        @queue = queue
        @limit = limit
        @trace = trace
      end

      def probe? = @delivery.nil?

      def too_large? = !@limit.nil?

      # How often the job was found in dead hands.
      def recovered = @recovered

      def only_if_known? = false

      def queue = @queue.include?("%") ? Percent.decode(@queue) : @queue

      def body = @body || raise(Refusals.too_large(@limit))

      # Stands in the payload.
      def correlation_id = nil

      # W3C's headers, as the form of a Web page would send them.
      def trace
        return unless @trace
        found = URI.decode_www_form(@trace).to_h.slice(*TraceContext::HEADERS)
        found.transform_values(&:scrub) unless found.empty?
      rescue ArgumentError
        nil # no such form: the job runs without
      end
    end
  end
end
