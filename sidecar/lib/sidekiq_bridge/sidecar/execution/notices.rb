# frozen_string_literal: true

require "json"
require "sidekiq_bridge/sidecar/errors"
require "sidekiq_bridge/sidecar/logs/log_text"
require "sidekiq_bridge/sidecar/sidekiq/notice"

module SidekiqBridge
  module Sidecar
    # Runs the handlers of each notice once, on a slot's thread, and remembers which have run: a worker that lost the
    # reply asks again.
    class Notices
      # The worker waits 40 s for a reply.
      WAIT_SECONDS = 25
      # No handler begins after that: the reply then names the first notices only.
      LONGEST_SECONDS = 10
      MOST_RECORDS = 10_000
      RUNNING = :running

      # `lend` runs a block on a slot's thread and returns an Errand.
      def initialize(handlers, lend)
        @handlers = handlers
        @lend = lend
        @records = {} # [kind, id] => RUNNING, or the answer; the oldest first
        @lock = Mutex.new
      end

      # `kind` is :death or :error. Returns what became of the first of these notices.
      def call(kind, body)
        notices = Notice.all_in(body)
        begun = @lock.synchronize { notices.reject { |notice| @records.key?([kind, notice.id]) }.each { |notice| @records[[kind, notice.id]] = RUNNING } }
        @lend.call { perform(kind, begun) }.wait(WAIT_SECONDS) if begun.any?
        @lock.synchronize { notices.filter_map { |notice| answer(kind, notice) } }
      end

      private

      def answer(kind, notice)
        found = @records[[kind, notice.id]]
        return unless found
        return {"id" => notice.id, "status" => "running"} if found == RUNNING
        {"id" => notice.id, "status" => "told", **found}
      end

      def perform(kind, notices)
        left, deadline = notices.dup, monotonic + LONGEST_SECONDS
        current = nil
        while (current = left.shift)
          keep(kind, current, handle(kind, current))
          break if monotonic >= deadline
        end
        current = nil
      ensure
        # A handler that killed its thread has run.
        keep(kind, current, {}) if current
        forget(kind, left)
      end

      # An error of the app's code is the app's: the handlers have run.
      def handle(kind, notice)
        @handlers.public_send(kind, notice)
      rescue Exception => e # rubocop:disable Lint/RescueException
        ::Sidekiq.logger.error { "Handlers failed for the notice #{LogText.word(notice.id)}: #{e.class}: #{LogText.line(e.message)}" }
        {}
      end

      def keep(kind, notice, answer)
        @lock.synchronize do
          @records.delete([kind, notice.id])
          @records[[kind, notice.id]] = answer
          @records.delete(@records.find { |_, found| found != RUNNING }.first) if @records.size > MOST_RECORDS
        end
      end

      def forget(kind, notices)
        @lock.synchronize { notices.each { |notice| @records.delete([kind, notice.id]) } }
      end

      def monotonic = Process.clock_gettime(Process::CLOCK_MONOTONIC)
    end
  end
end
