# frozen_string_literal: true

require "sidekiq_bridge/sidecar/sidekiq/outcome"

module SidekiqBridge
  module Sidecar
    # Records keep this small object in place of an ended Run, which is much larger: a process holds thousands.
    class EndedRun
      attr_reader :outcome, :duration_ms

      def initialize(outcome, duration_ms)
        @outcome = outcome
        @duration_ms = duration_ms
      end

      def carry(_delivery) = nil

      def ended = self

      def finished? = true

      def given_back? = outcome.given_back?

      def on_finish(delivery, listener) = listener.call(outcome, delivery)

      def wait(_seconds) = outcome

      # A run that has ended has no waiting requests and nothing to stop or to ask for.
      def dismiss(_delivery) = nil

      def asks? = false

      def body_for(_delivery) = nil

      def performed(_ending) = nil

      def heard = nil

      def interrupt = nil

      def cancel(_exception) = nil

      # In place of the run of each delivery that a newer one superseded.
      SUPERSEDED = new(Outcome.superseded, 0.0).freeze
    end
  end
end
