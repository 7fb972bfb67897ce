# frozen_string_literal: true

require "json"
require "sidekiq_bridge/sidecar/errors"
require "sidekiq_bridge/sidecar/logs/log_text"

module SidekiqBridge
  module Sidecar
    # The replies of the sidecar, the same for each transport.
    module Replies
      Reply = Struct.new(:status, :body, :headers)
      NO_HEADERS = {}.freeze

      module_function

      # Returns the outcome of a delivery, or the refusal that replaces it.
      def settled(delivery, outcome)
        return refused(outcome.refusal) if outcome.refusal
        Reply.new(200, delivery.outcome_json(outcome), NO_HEADERS)
      end

      # Asks the worker for the job's Python code; nil if the run waits for none.
      def body(delivery)
        text = delivery.run.body_for(delivery)
        Reply.new(200, text, NO_HEADERS) if text
      end

      def refused(error)
        headers = error.retry_after ? {"retry-after" => error.retry_after.to_s} : NO_HEADERS
        json(error.http_status, error.to_h, headers)
      end

      # Logs a bug of the sidecar; the reply to the client does not describe it.
      def crashed(error)
        ::Sidekiq.logger.error { "#{error.class}: #{LogText.line(error.message)}\n#{error.backtrace&.first(20)&.join("\n")}" }
        refused(Refusals.internal)
      end

      def json(status, body, headers = NO_HEADERS) = Reply.new(status, JSON.generate(body), headers)
    end
  end
end
