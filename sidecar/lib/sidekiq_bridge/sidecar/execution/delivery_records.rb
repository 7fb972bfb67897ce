# frozen_string_literal: true

module SidekiqBridge
  module Sidecar
    # The deliveries that this process remembers: the running ones, and for a while the finished ones. The executor's
    # lock guards it; it has no lock of its own.
    #
    # Deliveries are kept on pages, so that the process forgets many at once. Only the newest page changes.
    class DeliveryRecords
      # A worker that lost a reply asks again within this time. It notices a dead stream within 20 s and then asks for
      # 10 s. A single request first waits for 40 s. The jobs of a machine that died are claimed again after 25 s.
      ASK_SECONDS = 90
      KEEP_SECONDS = 15 * 60
      # The process drops records beyond this number once they are older than ASK_SECONDS.
      KEEP_COUNT = 10_000
      # The process drops records beyond this number at any age. A record takes 0.3 kB, so they take about 30 MB; only
      # 1,100 jobs a second reach this number.
      MOST = 100_000
      # No delivery starts later than this after its worker sent it. The sidecar cuts a stream whose worker is silent
      # for a minute. The signature of a single request expires after a minute, or two if the clocks differ.
      ASKED_SECONDS = 180
      # A look-up goes through the pages one after the other, so they must be few.
      PAGES = 4

      # Deliveries, and two indexes of them: by worker and token, and the newest one of each job by its lineage.
      #
      # Each minor garbage collection walks through an object that got a younger one. So an index holds integers, and a
      # delivery comes into a small block.
      class Page
        BLOCK = 256

        attr_reader :size, :began_at
        attr_accessor :newest_at # when the newest of them has finished

        def initialize(began_at)
          @blocks = []
          @size = 0
          @workers = {}
          @latest = {}
          @began_at = @newest_at = began_at
        end

        def [](identity, token) = at(@workers[identity]&.[](token))

        def latest(lineage) = at(@latest[lineage])

        def of?(identity) = @workers.key?(identity)

        def add(delivery)
          @blocks << [] if (@size % BLOCK).zero?
          @blocks.last << delivery
          (@workers[delivery.identity] ||= {})[delivery.token] = @size
          @latest[delivery.lineage] = @size if delivery.lineage && !delivery.superseded?
          @size += 1
        end

        def each_running
          @blocks.each { |block| block.each { |delivery| yield delivery unless delivery.run.finished? } }
        end

        private

        def at(index) = index && @blocks[index / BLOCK][index % BLOCK]
      end

      def initialize(keep_seconds: KEEP_SECONDS, keep_count: KEEP_COUNT, ask_seconds: ASK_SECONDS, most: MOST)
        @keep_seconds = keep_seconds
        @keep_count = keep_count
        @ask_seconds = ask_seconds
        @most = most
        @page_size = [keep_count / PAGES, 1].max
        @largest_page = most / PAGES
        @pages = [Page.new(0)] # the newest first
        @newest_tokens = {} # by worker, of those on a page
        @asked = {} # time and delivery by lineage, the longest ago first
      end

      # A worker counts its deliveries, so a token above all known ones is new.
      def [](identity, token)
        newest = @newest_tokens[identity]
        return if newest && token > newest
        @pages.each { |page| (found = page[identity, token]) && (return found) }
        nil
      end

      # Returns the newest delivery of a lineage; a job without a jid has no lineage.
      def latest(lineage)
        @pages.each { |page| (found = page.latest(lineage)) && (return found) } if lineage
        nil
      end

      # Adds a delivery whose run has not finished, as a rule.
      def add(delivery)
        @pages.first.add(delivery)
        note_token(delivery)
      end

      # A worker whose request finds no record here may start the job elsewhere. An older delivery that
      # arrives later (from a socket's buffer, from a worker that died) must not start.
      def asked(delivery, now)
        return unless delivery.lineage
        @asked.delete(delivery.lineage)
        @asked[delivery.lineage] = [now, delivery]
        @asked.shift while @asked.size > @most || now - @asked.first.last.first >= ASKED_SECONDS
      end

      # `latest` is the newest known delivery of the lineage.
      def superseded?(delivery, latest)
        return true if latest && delivery.older_than?(latest)
        return false if @asked.empty?
        asked = @asked[delivery.lineage]&.last
        !asked.nil? && delivery.older_than?(asked)
      end

      # A delivery that began on an older page comes to the newest one, which is kept for long enough.
      def finish(delivery, now)
        newest = @pages.first
        newest.add(delivery) unless newest[delivery.identity, delivery.token]
        newest.newest_at = now
        turn_page(now) if newest.size >= @page_size && full?(newest, now)
        drop_page(now) if now - @pages.last.newest_at >= @keep_seconds
      end

      private

      def note_token(delivery)
        newest = @newest_tokens[delivery.identity]
        return if newest && newest >= delivery.token
        @newest_tokens[delivery.identity] = delivery.token
      end

      # Many small jobs must not make many pages.
      def full?(page, now) = now - page.began_at >= @ask_seconds / PAGES || page.size >= @largest_page

      def turn_page(now)
        @pages.unshift(Page.new(now))
        drop_page(now) while dispensable?(@pages.last, now)
      end

      def dispensable?(page, now)
        age, others = now - page.newest_at, @pages.sum(&:size) - page.size
        (age >= @ask_seconds && others >= @keep_count) || others + @largest_page > @most
      end

      # Running deliveries come to the newest page.
      def drop_page(now)
        page = @pages.pop
        @pages << Page.new(now) if @pages.empty?
        page.each_running { |delivery| @pages.first.add(delivery) }
        @newest_tokens.select! { |identity, _| @pages.any? { |kept| kept.of?(identity) } }
      end
    end
  end
end
