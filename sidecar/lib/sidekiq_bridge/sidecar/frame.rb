# frozen_string_literal: true

require "sidekiq_bridge/sidecar/errors"
require "sidekiq_bridge/sidecar/percent"

module SidekiqBridge
  module Sidecar
    # One job or probe that came over a stream; to Intake, what a Message is.
    class Frame
      attr_reader :id, :delivery, :claimed_at_ms
      attr_writer :body

      # No delivery: a probe. `limit` is given for a body that is larger and not kept.
      def initialize(id, delivery = nil, claimed_at_ms = nil, recovered = false, queue = nil, limit = nil)
        @id = id
        @delivery = delivery
        @claimed_at_ms = claimed_at_ms
        @recovered = recovered
        @queue = queue
        @limit = limit
      end

      def probe? = @delivery.nil?

      def too_large? = !@limit.nil?

      def recovered? = @recovered

      def only_if_known? = false

      def queue = @queue.include?("%") ? Percent.decode(@queue) : @queue

      def body = @body || raise(Refusals.too_large(@limit))

      # Neither travels on a stream.
      def correlation_id = nil

      def trace = nil
    end
  end
end
