# frozen_string_literal: true

module SidekiqBridge
  module Sidecar
    # What this process remembers of deliveries: those that run, and for a while those that have finished.
    # Not synchronised: the executor's lock guards it.
    #
    # Those that have finished stand on pages, of which only the newest is written to. One large table that changes with
    # each job would be gone through by each minor garbage collection: half of what those cost.
    class DeliveryRecords
      # A worker that lost a reply asks again within that time. It notices a dead stream within 20 s and then asks for 10 s;
      # a single request waits for 40 s before; the jobs of a machine that died are claimed again after 25 s.
      ASK_SECONDS = 90
      KEEP_SECONDS = 15 * 60
      # Records beyond that go once they are older than ASK_SECONDS.
      KEEP_COUNT = 10_000
      # Records beyond that go at any age. A record takes 0.8 to 1.2 kB, so this is about 120 MB; it takes 1,100 jobs a second.
      MOST = 100_000
      # Nothing that a worker has sent begins later: a stream whose worker was silent for a minute is cut, and the signature
      # of a single request is refused after a minute, two with clocks that differ.
      ASKED_SECONDS = 180
      # Looked through one after the other, so they must be few.
      PAGES = 4

      # Deliveries by their id, and the newest of each job by its lineage.
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

        # Takes in a newer page.
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

      # The newest delivery of a lineage; jobs without a jid have none.
      def latest(lineage) = lineage && first_found { |page| page.latest[lineage] }

      def add(delivery)
        @running.add(delivery)
      end

      # A worker was told that a job is not known here, and may start it elsewhere. What an older delivery of it has on the
      # way still (in a socket's buffer, from a worker that died) must not begin.
      def asked(delivery, now)
        return unless delivery.lineage
        @asked.delete(delivery.lineage)
        delivery.finished_at = now
        @asked[delivery.lineage] = delivery
        @asked.shift while @asked.size > @most || now - @asked.first.last.finished_at >= ASKED_SECONDS
      end

      # `latest` is what is known of the delivery's lineage.
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

      # A full page joins the one before while that is young: many small jobs must not make many pages.
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
