# frozen_string_literal: true

module SidekiqBridge
  module Sidecar
    # The deliveries that this process remembers: the running ones, and for a while the finished ones. The executor's
    # lock guards it; it has no lock of its own.
    #
    # Finished deliveries are kept on pages, and only the newest page changes. Each minor garbage collection would walk
    # through one large table that changes with each job; pages halve that cost.
    class DeliveryRecords
      # A worker that lost a reply asks again within this time. It notices a dead stream within 20 s and then asks for
      # 10 s. A single request first waits for 40 s. The jobs of a machine that died are claimed again after 25 s.
      ASK_SECONDS = 90
      KEEP_SECONDS = 15 * 60
      # The process drops records beyond this number once they are older than ASK_SECONDS.
      KEEP_COUNT = 10_000
      # The process drops records beyond this number at any age. A record takes 0.8 to 1.2 kB, so they take about 120
      # MB; only 1,100 jobs a second reach this number.
      MOST = 100_000
      # No delivery starts later than this after its worker sent it. The sidecar cuts a stream whose worker is silent
      # for a minute. The signature of a single request expires after a minute, or two if the clocks differ.
      ASKED_SECONDS = 180
      # A look-up goes through the pages one after the other, so they must be few.
      PAGES = 4

      # Deliveries by their id, and the newest delivery of each job by its lineage.
      class Page
        attr_reader :deliveries, :latest, :began_at
        attr_accessor :newest_at # when the newest of them has finished

        def initialize(began_at = 0)
          @deliveries = {}
          @latest = {}
          @began_at = @newest_at = began_at
        end

        def add(delivery)
          @deliveries[delivery.id] = delivery
          @latest[delivery.lineage] = delivery if delivery.lineage && !delivery.superseded?
        end

        def delete(delivery)
          @deliveries.delete(delivery.id)
          @latest.delete(delivery.lineage) if @latest[delivery.lineage].equal?(delivery)
        end

        # Adds the deliveries of a newer page.
        def merge(page)
          @deliveries.update(page.deliveries)
          @latest.update(page.latest)
          @newest_at = page.newest_at
        end

        def size = @deliveries.size
      end

      def initialize(keep_seconds: KEEP_SECONDS, keep_count: KEEP_COUNT, ask_seconds: ASK_SECONDS, most: MOST)
        @keep_seconds = keep_seconds
        @keep_count = keep_count
        @ask_seconds = ask_seconds
        @most = most
        @page_size = [keep_count / PAGES, 1].max
        @running = Page.new
        @pages = [Page.new] # of those that have finished, the newest first
        @asked = {} # by lineage, the longest ago first
      end

      def [](id) = first_found { |page| page.deliveries[id] }

      # Returns the newest delivery of a lineage; a job without a jid has no lineage.
      def latest(lineage) = lineage && first_found { |page| page.latest[lineage] }

      def add(delivery)
        @running.add(delivery)
      end

      # A worker whose request finds no record here may start the job elsewhere. An older delivery that
      # arrives later (from a socket's buffer, from a worker that died) must not start.
      def asked(delivery, now)
        return unless delivery.lineage
        @asked.delete(delivery.lineage)
        delivery.finished_at = now
        @asked[delivery.lineage] = delivery
        @asked.shift while @asked.size > @most || now - @asked.first.last.finished_at >= ASKED_SECONDS
      end

      # `latest` is the newest known delivery of the lineage.
      def superseded?(delivery, latest)
        return true if latest && delivery.older_than?(latest)
        asked = @asked[delivery.lineage]
        !asked.nil? && delivery.older_than?(asked)
      end

      def finish(delivery, now)
        @running.delete(delivery)
        delivery.finished_at = now
        turn_page(now) if @pages.first.size >= @page_size
        @pages.first.add(delivery)
        @pages.first.newest_at = now
        @pages.pop while dispensable?(@pages.last, now)
        @pages << Page.new(now) if @pages.empty?
      end

      private

      # Merges a full page into a young page before it: many small jobs must not make many pages.
      def turn_page(now)
        before = @pages[1]
        if before && now - before.began_at < @ask_seconds / PAGES && before.size < @most / PAGES
          before.merge(@pages.shift)
        end
        @pages.unshift(Page.new(now))
      end

      def first_found
        found = yield(@running)
        return found if found
        @pages.each { |page| return found if (found = yield(page)) }
        nil
      end

      def dispensable?(page, now)
        return false unless page
        age, others = now - page.newest_at, @pages.sum(&:size) - page.size
        age >= @keep_seconds || (age >= @ask_seconds && others >= @keep_count) || others >= @most
      end
    end
  end
end
