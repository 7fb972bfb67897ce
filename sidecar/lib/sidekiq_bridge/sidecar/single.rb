# frozen_string_literal: true

require "sidekiq_bridge/sidecar/listener"
require "sidekiq_bridge/sidecar/signals"
require "sidekiq_bridge/sidecar/worker"

module SidekiqBridge
  module Sidecar
    # A sidecar of one process. No master above it: with nothing to share, it would only cost memory and a fork.
    class Single
      def initialize(settings)
        @settings = settings
      end

      def run
        signals = Signals.new
        listener = Listener.new(@settings.address).open
        worker = Worker.new(@settings, listeners: [listener])
        worker.start
        ::Sidekiq.logger.info { "Sidecar ready on #{listener.bind}, #{@settings.threads} slots" }
        serve(worker, signals)
        listener.close
        leave(worker)
      end

      private

      def serve(worker, signals)
        loop do
          case signals.next
          when "TSTP" then worker.drain
          when "TTIN" then Signals.log_backtraces
          else return worker.stop
          end
        end
      end

      # A thread that could not be ended would also hold up a normal exit.
      def leave(worker)
        worker.abandoned? ? exit!(0) : exit(0)
      end
    end
  end
end
