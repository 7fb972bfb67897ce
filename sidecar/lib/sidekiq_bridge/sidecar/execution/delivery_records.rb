# frozen_string_literal: true

module SidekiqBridge
  module Sidecar
    # What this process remembers of deliveries: those that run, and for a while those that have finished.
    # Not synchronised: the executor's lock guards it.
    #
    # Those that have finished stand on pages, of which only the newest is written to. One large table that changes with
    # each job would be gone through by each minor garbage collection: half of what those cost.
    class DeliveryRecords
      KEEP_SECONDS = 15 * 60
      KEEP_COUNT = 10_000
      ASKED_SECONDS = 60
      # Looked through one after the other, so they must be few.
      PAGES = 4

      # Deliveries by their id, and the newest of each job by its jid.
      class Page
        attr_reader :deliveries, :latest
        attr_accessor :newest_at # when the newest of them has finished

        def initialize
          @deliveries = {}
          @latest = {}
          @newest_at = 0
        end

        def add(delivery)
          @deliveries[delivery.id] = delivery
          @latest[delivery.jid] = delivery if delivery.jid && !delivery.superseded?
        end

        def delete(delivery)
          @deliveries.delete(delivery.id)
          @latest.delete(delivery.jid) if @latest[delivery.jid].equal?(delivery)
        end

        def size = @deliveries.size
      end

      def initialize(keep_seconds: KEEP_SECONDS, keep_count: KEEP_COUNT)
        @keep_seconds = keep_seconds
        @keep_count = keep_count
        @page_size = [keep_count / PAGES, 1].max
        @running = Page.new
        @pages = [Page.new] # of those that have finished, the newest first
        @asked = {} # by jid, the longest ago first
      end

      def [](id) = first_found { |page| page.deliveries[id] }

      # The newest delivery of a job; jobs without a jid have no history.
      def latest(jid) = jid && first_found { |page| page.latest[jid] }

      def add(delivery)
        @running.add(delivery)
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

      # `latest` is what is known of the delivery's job.
      def superseded?(delivery, latest)
        return true if latest && delivery.older_than?(latest)
        asked = @asked[delivery.jid]
        !asked.nil? && delivery.older_than?(asked)
      end

      def finish(delivery, now)
        @running.delete(delivery)
        delivery.finished_at = now
        @pages.unshift(Page.new) if @pages.first.size >= @page_size
        @pages.first.add(delivery)
        @pages.first.newest_at = now
        @pages.pop while dispensable?(@pages.last, now)
        @pages << Page.new if @pages.empty?
      end

      private

      def first_found
        found = yield(@running)
        return found if found
        @pages.each { |page| return found if (found = yield(page)) }
        nil
      end

      def dispensable?(page, now)
        page && (now - page.newest_at >= @keep_seconds || @pages.sum(&:size) - page.size >= @keep_count)
      end
    end
  end
end
