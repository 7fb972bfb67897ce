# frozen_string_literal: true

module SidekiqBridge
  module Sidecar
    # Replaces Puma workers one at a time: those above the memory limit, or all of them on request. The new one starts
    # before the old one leaves, so the sidecar keeps all slots and interrupts no job.
    class RollingRestart
      RETIRE = "USR2"

      # `start` starts a Puma worker for a reason and returns its pid; `retire` tells a pid to leave.
      def initialize(max_rss_bytes:, start:, retire:)
        @max_rss_bytes = max_rss_bytes
        @start = start
        @retire = retire
        @wanted = {}     # pid => reason
        @at_start = {}   # pid => bytes
        @old = @new = nil
      end

      # True if a new Puma worker has replaced this one, or is starting to.
      def leaving?(pid) = pid == @old

      def coming?(pid) = pid == @new

      def request(pids)
        pids.each { |pid| @wanted[pid] ||= "reload" }
      end

      # The master calls it once a second. `states` are those of the started Puma workers, by pid.
      def step(states)
        want_large_ones(states)
        if @new then switch(states)
        elsif @old.nil? then begin_next(states)
        end
      end

      # Notes that a Puma worker has ended.
      def ended(pid)
        @wanted.delete(pid)
        @at_start.delete(pid)
        return unless pid == @old || pid == @new
        ::Sidekiq.logger.info { "Rolling restart finished" } if pid == @old && @wanted.empty?
        @old = @new = nil
      end

      private

      def want_large_ones(states)
        return unless @max_rss_bytes
        states.each { |pid, state| @wanted[pid] ||= "memory" if large?(pid, state["rss_bytes"]) }
      end

      # Excludes a Puma worker above the limit from its start: the sidecar would replace it again and again.
      def large?(pid, bytes)
        @at_start[pid] ||= bytes.tap { warn_of_limit(bytes) if bytes > @max_rss_bytes }
        bytes > @max_rss_bytes && @at_start[pid] <= @max_rss_bytes
      end

      def warn_of_limit(bytes)
        ::Sidekiq.logger.warn { "A Puma worker starts with #{bytes / 1_000_000} MB, above --max-rss: raise --max-rss, or the sidecar will not replace this worker" }
      end

      def begin_next(states)
        @old, reason = @wanted.find { |pid, _| states.key?(pid) }
        return unless @old
        @wanted.delete(@old)
        ::Sidekiq.logger.info { "Replacing sidecar worker #{states[@old]["index"]} (#{reason}, #{states[@old]["rss_bytes"] / 1_000_000} MB)" }
        @new = @start.call(reason)
      end

      def switch(states)
        return unless states.key?(@new)
        @new = nil
        @retire.call(@old)
      end
    end
  end
end
