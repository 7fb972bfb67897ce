# frozen_string_literal: true

require "sidekiq/sd_notify"

module SidekiqBridge
  module Sidecar
    # Reports to systemd, if it started the sidecar, by Sidekiq's own sd_notify(3). Without systemd it does nothing.
    class Systemd
      # Seconds between two checks until the sidecar is ready.
      START_SECONDS = 0.5
      # A Puma worker beats once a second, and may miss a few beats even with a short watchdog.
      LEAST_SILENCE_SECONDS = 5

      # `watchdog_seconds`: how long systemd waits for a heartbeat; nil without a watchdog.
      def initialize(watchdog_seconds)
        @watchdog_seconds = watchdog_seconds
        @ready = false
      end

      # Seconds that the main thread may wait for a signal before its next check; nil for no limit.
      def pause
        return unless listening?
        return START_SECONDS unless @ready
        @watchdog_seconds && @watchdog_seconds / 2.0
      end

      # True if Puma workers that last published `silent_seconds` ago hang.
      def hang?(silent_seconds)
        silent_seconds > [@watchdog_seconds.to_f, LEAST_SILENCE_SECONDS].max
      end

      # Reports once that the sidecar takes jobs.
      def ready
        return if @ready
        @ready = true
        tell { ::Sidekiq::SdNotify.ready }
      end

      # Reports that the sidecar is alive.
      def alive
        tell { ::Sidekiq::SdNotify.watchdog } if @watchdog_seconds
      end

      def stopping
        tell { ::Sidekiq::SdNotify.stopping }
      end

      private

      def listening? = !ENV["NOTIFY_SOCKET"].to_s.empty?

      # The sidecar goes on if the service manager does not listen.
      def tell
        yield
      rescue ::Sidekiq::SdNotify::NotifyError => e
        ::Sidekiq.logger.debug { "cannot notify the service manager: #{e.message}" }
      end
    end
  end
end
