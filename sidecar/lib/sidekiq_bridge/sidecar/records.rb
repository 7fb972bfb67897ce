# frozen_string_literal: true

module SidekiqBridge
  module Sidecar
    # What this process remembers of deliveries: those that run, and for a while those that have finished.
    # Not synchronised: the executor's lock guards it.
    class Records
      KEEP_SECONDS = 15 * 60
      KEEP_COUNT = 10_000

      def initialize(keep_seconds: KEEP_SECONDS, keep_count: KEEP_COUNT)
        @keep_seconds = keep_seconds
        @keep_count = keep_count
        @deliveries = {}
        @latest = {}
        @finished_at = {}
      end

      def [](id) = @deliveries[id]

      # The newest delivery of a job; jobs without a jid have no history.
      def latest(jid) = jid && @latest[jid]

      def add(delivery)
        @deliveries[delivery.id] = delivery
        @latest[delivery.jid] = delivery if delivery.jid
      end

      def finish(delivery, now)
        @finished_at[delivery.id] = now
        forget_old(now)
      end

      private

      # @finished_at is in the order of finishing, so the first is the oldest.
      def forget_old(now)
        while (oldest = @finished_at.first)
          break if @finished_at.size <= @keep_count && now - oldest.last < @keep_seconds
          forget(oldest.first)
        end
      end

      def forget(id)
        @finished_at.delete(id)
        delivery = @deliveries.delete(id)
        @latest.delete(delivery.jid) if @latest[delivery.jid].equal?(delivery)
      end
    end
  end
end
