# frozen_string_literal: true

module SidekiqBridge
  module Sidecar
    # What records keep of a run that has ended, in its place: thousands of these are held, and a Run is much larger.
    class EndedRun
      attr_reader :outcome, :duration_ms

      def initialize(outcome, duration_ms)
        @outcome = outcome
        @duration_ms = duration_ms
      end

      def carry(_delivery) = nil

      def ended = self

      def finished? = true

      def given_back? = outcome.status == "shutdown"

      def on_finish(delivery)
        yield delivery.superseded? ? Outcome.superseded : outcome, delivery
      end

      def wait(_seconds) = outcome

      # Nobody waits for it, and there is nothing to be stopped.
      def dismiss(_delivery) = nil

      def interrupt = nil

      def cancel(_exception) = nil
    end
  end
end
