# frozen_string_literal: true

require "json"

module SidekiqBridge
  module Sidecar
    # What became of one run, in the words of the protocol.
    class Outcome
      attr_reader :status

      def self.done = new("done")

      def self.shutdown = new("shutdown")

      def self.interrupted(payload) = new("interrupted", "payload" => payload)

      def self.refused(message) = new("refused", "message" => message)

      def self.failed(error_class, message, decision)
        new("failed", "error" => {"class" => error_class, "message" => message}, "next" => decision)
      end

      def initialize(status, extra = nil)
        @status = status
        @extra = extra
      end

      def refused? = status == "refused"

      def message = @extra["message"]

      def to_json_for(delivery_id, jid, duration_ms)
        body = {"status" => status, "jid" => jid, "delivery" => delivery_id, "duration_ms" => duration_ms}
        body.update(@extra) if @extra
        JSON.generate(body)
      end
    end
  end
end
