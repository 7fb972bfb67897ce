# frozen_string_literal: true

module SidekiqBridge
  module Sidecar
    # What this process remembers of deliveries: those that run, and for a while those that have finished.
    # Not synchronised: the executor's lock guards it.
    class Records
      KEEP_SECONDS = 15 * 60
      KEEP_COUNT = 10_000
      ASKED_SECONDS = 60

      def initialize(keep_seconds: KEEP_SECONDS, keep_count: KEEP_COUNT)
        @keep_seconds = keep_seconds
        @keep_count = keep_count
        @deliveries = {}
        @latest = {}
        @asked = {} # by jid, the longest ago first
        @finished = [] # in the order of finishing
      end

      def [](id) = @deliveries[id]

      # The newest delivery of a job; jobs without a jid have no history.
      def latest(jid) = jid && @latest[jid]

      def add(delivery)
        @deliveries[delivery.id] = delivery
        @latest[delivery.jid] = delivery if delivery.jid
      end

      # Somebody was told that a job is not known here, and may start it elsewhere. What an older delivery of it has on the
      # way still (in a socket's buffer, from a worker that died) must not begin.
      def asked(delivery, now)
        return unless delivery.jid
        @asked.delete(delivery.jid)
        delivery.finished_at = now
        @asked[delivery.jid] = delivery
        @asked.shift while @asked.size > @keep_count || now - @asked.first.last.finished_at >= ASKED_SECONDS
      end

      def superseded?(delivery)
        [latest(delivery.jid), @asked[delivery.jid]].any? { |other| other && delivery.older_than?(other) }
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
