# frozen_string_literal: true

require "sidekiq_bridge/sidecar/http/listener"
require "sidekiq_bridge/sidecar/process/job_server"
require "sidekiq_bridge/sidecar/process/signals"
require "sidekiq_bridge/sidecar/process/systemd"
require "sidekiq_bridge/sidecar/sidekiq/forks"

module SidekiqBridge
  module Sidecar
    # A sidecar of one process, without a master: with nothing to share, a master would only cost memory and a fork.
    class Single
      def initialize(settings)
        @settings = settings
        @manager = Systemd.new(settings.watchdog_seconds)
      end

      def run
        signals = Signals.new
        Forks.on_fork { signals.release }
        listener = Listener.new(@settings.address).open
        probes = @settings.metrics_address && Listener.new(@settings.metrics_address).open
        worker = JobServer.new(@settings, listeners: [listener], probes: probes)
        worker.start
        signals.arm # a hook at :startup may have set its own traps
        ::Sidekiq.logger.info { "Sidecar ready on #{listener.bind}, #{@settings.threads} slots" }
        @manager.ready
        serve(worker, signals)
        [listener, *probes].each(&:close)
        leave(worker)
      end

      private

      def serve(worker, signals)
        loop do
          case signals.next(@manager.pause)
          when nil then @manager.alive
          when "TSTP" then worker.drain
          when "TTIN" then Signals.log_backtraces
          else return stop(worker)
          end
        end
      end

      def stop(worker)
        @manager.stopping
        worker.stop
      end

      # A thread that ignores its end would also block a normal exit.
      def leave(worker)
        worker.abandoned? ? exit!(0) : exit(0)
      end
    end
  end
end
