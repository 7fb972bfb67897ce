# frozen_string_literal: true

module SidekiqBridge
  module Sidecar
    # Replaces Puma workers one at a time: those above the memory limit, or all of them when that is asked for. The new
    # one comes first and the old one leaves afterwards, so no slot is missing and no job is interrupted.
    class RollingRestart
      RETIRE = "USR2"

      # `start` makes a Puma worker for a reason and returns its pid; `retire` tells a pid to leave.
      def initialize(max_rss_bytes:, start:, retire:)
        @max_rss_bytes = max_rss_bytes
        @start = start
        @retire = retire
        @wanted = {}     # pid => reason
        @at_start = {}   # pid => bytes
        @old = @new = nil
      end

      # Whether another one stands in for this Puma worker already, or is coming to.
      def leaving?(pid) = pid == @old

      def coming?(pid) = pid == @new

      def request(pids)
        pids.each { |pid| @wanted[pid] ||= "reload" }
      end

      # Once a second. `states` are those of the Puma workers that have started, by pid.
      def step(states)
        want_large_ones(states)
        if @new then switch(states)
        elsif @old.nil? then begin_next(states)
        end
      end

      # A Puma worker has ended.
      def ended(pid)
        @wanted.delete(pid)
        @at_start.delete(pid)
        return unless pid == @old || pid == @new
        ::Sidekiq.logger.info { "All that was to be replaced is" } if pid == @old && @wanted.empty?
        @old = @new = nil
      end

      private

      def want_large_ones(states)
        return unless @max_rss_bytes
        states.each { |pid, state| @wanted[pid] ||= "memory" if large?(pid, state["rss_bytes"]) }
      end

      # One that needs more from the start would be replaced for ever.
      def large?(pid, bytes)
        @at_start[pid] ||= bytes.tap { warn_of_limit(bytes) if bytes > @max_rss_bytes }
        bytes > @max_rss_bytes && @at_start[pid] <= @max_rss_bytes
      end

      def warn_of_limit(bytes)
        ::Sidekiq.logger.warn { "A Puma worker has #{bytes / 1_000_000} MB from the start: raise --max-rss, it replaces none like this" }
      end

      def begin_next(states)
        @old, reason = @wanted.find { |pid, _| states.key?(pid) }
        return unless @old
        @wanted.delete(@old)
        ::Sidekiq.logger.info { "Sidecar worker #{states[@old]["index"]} is being replaced (#{reason}, #{states[@old]["rss_bytes"] / 1_000_000} MB)" }
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
