# frozen_string_literal: true

require "sidekiq_bridge/sidecar/errors"

module SidekiqBridge
  module Sidecar
    # One delivery of one job by a worker: `<identity>/<token>`. It outlives the payload: a record keeps no job.
    class Delivery
      ID = %r{\A[^/\s]{1,255}/\d{1,20}\z}

      attr_reader :id, :jid, :lineage, :fingerprint, :claimed_at_ms, :recovered, :run
      attr_accessor :finished_at # by the records' clock
      attr_accessor :listeners   # the run's, under its lock

      def initialize(id, job, claimed_at_ms:, recovered: 0)
        raise Refusals.protocol("X-Bridge-Delivery must be <identity>/<token>") unless ID.match?(id.to_s)
        @id = id.freeze # a key of the records, as the jid
        @jid = job.jid
        @lineage = job.lineage
        @fingerprint = job.fingerprint
        @claimed_at_ms = claimed_at_ms
        @recovered = recovered
        @superseded = false
      end

      # Names the worker.
      def identity = id.rpartition("/").first

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
        identity, token = id.split("/")
        others_identity, others_token = other.id.split("/")
        return token.to_i < others_token.to_i if identity == others_identity
        recovered < other.recovered && claimed_at_ms < other.claimed_at_ms
      end

      # A worker that recovered this orphaned job may take over the run that the dead worker started.
      def may_take_over?(other) = recovered.positive? && other.fingerprint == fingerprint

      def superseded? = @superseded

      # Tells the waiting request at once instead of at the end of the run: the newer delivery has taken over.
      def supersede
        @superseded = true
        run.dismiss(self)
      end

      # Calls the block with the outcome and this delivery, at once if the run has ended.
      def on_outcome(&listener) = run.on_finish(self, &listener)

      # Returns the outcome if the run ends within `seconds`, else nil: at once if the run asks for its Python code.
      def wait(seconds)
        outcome = run.wait(seconds) { superseded? || run.asks? }
        raise Refusals.superseded if superseded?
        outcome
      end

      def outcome_json = run.outcome.to_json_for(id, jid, run.duration_ms)
    end
  end
end
