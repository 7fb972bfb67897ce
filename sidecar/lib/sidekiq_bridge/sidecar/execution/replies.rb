# frozen_string_literal: true

require "json"
require "sidekiq_bridge/sidecar/errors"
require "sidekiq_bridge/sidecar/logs/log_text"

module SidekiqBridge
  module Sidecar
    # What is answered, whichever transport asked.
    module Replies
      Reply = Struct.new(:status, :body, :headers)
      NO_HEADERS = {}.freeze

      module_function

      # The outcome of a delivery, or the refusal that it turned out to be.
      def settled(delivery, outcome)
        return refused(outcome.refusal) if outcome.refusal
        Reply.new(200, delivery.outcome_json, NO_HEADERS)
      end

      def refused(error)
        headers = error.retry_after ? {"retry-after" => error.retry_after.to_s} : NO_HEADERS
        json(error.http_status, error.to_h, headers)
      end

      # A bug of ours: into the log with it, and no word of it to the other side.
      def crashed(error)
        ::Sidekiq.logger.error { "#{error.class}: #{LogText.line(error.message)}\n#{error.backtrace&.first(20)&.join("\n")}" }
        refused(Refusals.internal)
      end

      def json(status, body, headers = NO_HEADERS) = Reply.new(status, JSON.generate(body), headers)
    end
  end
end
