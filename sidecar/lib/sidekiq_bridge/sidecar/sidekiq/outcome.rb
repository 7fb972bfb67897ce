# frozen_string_literal: true

require "json"
require "sidekiq_bridge/sidecar/errors"
require "sidekiq_bridge/sidecar/sidekiq/encodable"
require "sidekiq_bridge/sidecar/sidekiq/kept_results"

module SidekiqBridge
  module Sidecar
    # The outcome of one run, in the words of the protocol.
    class Outcome
      # Text that JSON writes unchanged.
      PLAIN = %r{\A[\w:./-]*\z}

      KEPT = KeptResults.new

      attr_reader :status

      # One object for all successful runs: most records keep this outcome.
      def self.done = (@done ||= new("done").freeze)

      # A tracked job has returned this (Results::Encoded).
      def self.returned(encoded)
        return new("done", {"result_lost" => encoded.lost}) unless encoded.json
        KEPT.add(new("done", {"result" => encoded.json}), encoded.json.bytesize)
      end

      # `asked` says whether the sidecar asked the job to stop. A job may raise Sidekiq::Shutdown by itself:
      # the worker buries such a job the third time.
      def self.shutdown(asked: true) = new("shutdown", asked ? nil : {"asked" => false})

      # The outcome of a delivery that a newer one superseded.
      def self.superseded = new("superseded")

      # The outcome when Sidekiq's retry rules could not run either. `dead_limits` are those of the app.
      def self.killed(dead_limits)
        message = "the job ended its own thread, twice"
        fields = {"error_message" => message, "error_class" => ThreadKilled.name}
        failed(ThreadKilled.name, message, {"place" => "dead", "fields" => fields, "dead_limits" => dead_limits})
      end

      # The job may not run now. It goes behind `queue`, or to `schedule` for `seconds`; the worker looks into its queue again
      # after `pause`.
      def self.postponed(queue, seconds, pause)
        new("postponed", {"queue" => queue, "seconds" => seconds, "pause_seconds" => pause}.compact)
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

      # Its record stays, without the result.
      def forget_result
        @extra = {"result_lost" => "the sidecar kept it no longer"}
      end

      # True if Sidekiq's processor would have raised: it then goes on with a new thread.
      def failed? = status == "failed" || status == "interrupted"

      # True if the job goes back, and may run again as if it had not been sent.
      def given_back? = status == "shutdown" || status == "postponed"

      # The refusal that replaces an outcome which the protocol does not report as one.
      def refusal
        case status
        when "refused" then Refusals.refused(@extra["message"])
        when "superseded" then Refusals.superseded
        end
      end

      # Builds plain outcomes by hand: JSON.generate takes longer than the rest of a reply.
      def to_json_for(delivery_id, jid, duration_ms)
        %({"status":"#{status}","jid":#{json(jid)},"delivery":#{json(delivery_id)},"duration_ms":#{duration_ms}#{extra_text if @extra}})
      end

      private

      # The text stays in place of the values: a process holds the outcomes of thousands of failed jobs.
      def extra_text
        return @extra if @extra.is_a?(String)
        text = ",#{encoded(@extra)[1..-2]}"
        @extra = text unless status == "refused" # #refusal needs its message
        text
      end

      def json(value)
        (value.is_a?(String) && PLAIN.match?(value)) ? %("#{value}") : encoded(value)
      rescue ArgumentError # text that is not UTF-8
        encoded(value)
      end

      # A job's own values must not look like an outage of the sidecar.
      def encoded(value)
        JSON.generate(value)
      rescue StandardError
        JSON.generate(Encodable.of(value))
      end
    end
  end
end
