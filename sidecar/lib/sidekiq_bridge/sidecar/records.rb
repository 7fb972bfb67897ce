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
        @finished = [] # in the order of finishing
      end

      def [](id) = @deliveries[id]

      # The newest delivery of a job; jobs without a jid have no history.
      def latest(jid) = jid && @latest[jid]

      def add(delivery)
        @deliveries[delivery.id] = delivery
        @latest[delivery.jid] = delivery if delivery.jid
      end

      def finish(delivery, now)
        delivery.finished_at = now
        @finished << delivery
        forget(@finished.shift) while too_old?(@finished.first, now)
      end

      private

      def too_old?(oldest, now)
        oldest && (@finished.size > @keep_count || now - oldest.finished_at >= @keep_seconds)
      end

      def forget(delivery)
        @deliveries.delete(delivery.id)
        @latest.delete(delivery.jid) if @latest[delivery.jid].equal?(delivery)
      end
    end
  end
end
