# frozen_string_literal: true

require "json"
require "sidekiq_bridge/sidecar/errors"

module SidekiqBridge
  module Sidecar
    # What became of one run, in the words of the protocol.
    class Outcome
      # Text that is the same in JSON.
      PLAIN = %r{\A[\w:./-]*\z}

      attr_reader :status

      # The same for all: it is what most records keep.
      def self.done = (@done ||= new("done").freeze)

      # `asked` says whether anybody wanted the job to stop: one that raises Sidekiq::Shutdown by itself would be given
      # back for ever.
      def self.shutdown(asked: true) = new("shutdown", asked ? nil : {"asked" => false})

      # For a delivery that a newer one has replaced.
      def self.superseded = new("superseded")

      # When even the retry rules could not be asked. `dead_limits` are those of the app.
      def self.killed(dead_limits)
        message = "the job ended its own thread, twice"
        fields = {"error_message" => message, "error_class" => ThreadKilled.name}
        failed(ThreadKilled.name, message, {"place" => "dead", "fields" => fields, "dead_limits" => dead_limits})
      end

      def self.interrupted(payload) = new("interrupted", "payload" => payload)

      def self.refused(message) = new("refused", "message" => message)

      def self.failed(error_class, message, decision)
        new("failed", "error" => {"class" => error_class, "message" => message}, "next" => decision)
      end

      def initialize(status, extra = nil)
        @status = status
        @extra = extra
      end

      # What is answered instead of the outcome, for one that is none.
      def refusal
        case status
        when "refused" then Refusals.refused(@extra["message"])
        when "superseded" then Refusals.superseded
        end
      end

      # Put together by hand where that is safe: JSON.generate takes longer than everything else about a reply.
      def to_json_for(delivery_id, jid, duration_ms)
        extra = ",#{JSON.generate(@extra)[1..-2]}" if @extra
        %({"status":"#{status}","jid":#{json(jid)},"delivery":#{json(delivery_id)},"duration_ms":#{duration_ms}#{extra}})
      end

      private

      def json(value)
        (value.is_a?(String) && PLAIN.match?(value)) ? %("#{value}") : JSON.generate(value)
      end
    end
  end
end
