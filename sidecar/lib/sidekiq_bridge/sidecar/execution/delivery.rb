# frozen_string_literal: true

require "sidekiq_bridge/sidecar/errors"
require "sidekiq_bridge/sidecar/execution/ended_run"

module SidekiqBridge
  module Sidecar
    # One delivery of one job by a worker: `<identity>/<token>`. It outlives the payload: a record keeps no job. A process
    # holds thousands of them, and Ruby gives an object with a ninth field twice the room.
    class Delivery
      ID = %r{\A([^/\s]{1,255})/(\d{1,20})\z}

      # Returns the worker's identity and the token, or nil for a text that is not an id.
      def self.parts(id)
        found = ID.match(id) if id&.valid_encoding?
        [found[1], found[2].to_i] if found
      end

      attr_reader :identity, :token, :jid, :lineage, :fingerprint, :claimed_at_ms, :recovered, :run

      # `identity` names the worker, which counts its deliveries: `token` is an integer.
      def initialize(identity, token, job, claimed_at_ms, recovered = 0)
        @identity = -identity # one text for all deliveries of a worker
        @token = token
        @jid = job.jid
        @lineage = job.lineage
        @fingerprint = job.fingerprint
        @claimed_at_ms = claimed_at_ms
        @recovered = recovered
      end

      def id = "#{@identity}/#{@token}"

      def attach(run)
        @run = run
        run.carry(self)
      end

      # The run has ended: the delivery drops the run and keeps its outcome.
      def run_ended
        @run = run.ended
      end

      # Compares two deliveries of one lineage. Redis' clock may be set back between them, so it does not decide alone.
      # A job reaches another worker only as an orphaned job, which raises `recovered`.
      def older_than?(other)
        return token < other.token if identity == other.identity
        recovered < other.recovered && claimed_at_ms < other.claimed_at_ms
      end

      # A worker that recovered this orphaned job may take over the run that the dead worker started.
      def may_take_over?(other) = recovered.positive? && other.fingerprint == fingerprint

      def superseded? = @run.equal?(EndedRun::SUPERSEDED)

      # Tells the waiting request at once instead of at the end of the run: the newer delivery has taken over.
      def supersede
        superseded_run, @run = @run, EndedRun::SUPERSEDED
        superseded_run.dismiss(self)
      end

      # Calls the listener with the outcome and this delivery, at once if the run has ended.
      def on_outcome(listener) = run.on_finish(self, listener)

      # Returns the outcome if the run ends within `seconds`, else nil: at once if the run asks for its Python code.
      def wait(seconds)
        outcome = run.wait(seconds) { superseded? || run.asks? }
        raise Refusals.superseded if superseded?
        outcome
      end

      # A listener gives the outcome that it was told: the delivery may be superseded by now.
      def outcome_json(outcome = run.outcome) = outcome.to_json_for(id, jid, run.duration_ms)
    end
  end
end
