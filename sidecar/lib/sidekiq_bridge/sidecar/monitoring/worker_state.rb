# frozen_string_literal: true

require "sidekiq_bridge/sidecar/sidekiq/app_queues"

module SidekiqBridge
  module Sidecar
    # The state of this Puma worker, for /health, /metrics and its siblings.
    class WorkerState
      # Reasons for which the master replaces a Puma worker.
      RESTARTS = %w[died memory reload].freeze

      def initialize(index:, boot:, url:, executor:, streams:, counters:, socket: nil, restarts: {})
        @index = index
        @boot = boot
        @url = url
        @socket = socket
        @executor = executor
        @streams = streams
        @counters = counters
        @restarts = restarts
        @retiring = false
        @started_at = Process.clock_gettime(Process::CLOCK_REALTIME, :millisecond) / 1000.0
      end

      # A new Puma worker has replaced this one: this one drains, and the sidecar goes on.
      def retire
        @retiring = true
      end

      def to_h
        {
          "index" => @index, "boot" => @boot, "pid" => Process.pid, "url" => @url, "socket" => @socket,
          "slots" => @executor.slot_count, "busy" => @executor.busy, "rss_bytes" => rss_bytes,
          "streams" => @streams.size, "draining" => @retiring || @executor.draining?, "retiring" => @retiring,
          "started_at" => @started_at, "queues" => AppQueues.report, "restarts" => RESTARTS.to_h { |reason| [reason, @restarts.fetch(reason, 0)] }, **@counters.to_h
        }
      end

      private

      def rss_bytes
        File.read("/proc/self/status")[/^VmRSS:\s+(\d+) kB/, 1].to_i * 1024
      rescue SystemCallError
        0
      end
    end
  end
end
