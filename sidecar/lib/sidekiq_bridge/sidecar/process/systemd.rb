# frozen_string_literal: true

require "sidekiq/sd_notify"

module SidekiqBridge
  module Sidecar
    # systemd, where it started the sidecar: told by Sidekiq's own sd_notify(3). Without one, all of this does nothing.
    class Systemd
      # Until the sidecar is ready it is looked at so often.
      START_SECONDS = 0.5
      # A Puma worker beats once a second; however short the watchdog, it may miss a few.
      LEAST_SILENCE_SECONDS = 5

      # `watchdog_seconds`: how long systemd waits for a sign of life, nil where it does not.
      def initialize(watchdog_seconds)
        @watchdog_seconds = watchdog_seconds
        @ready = false
      end

      # How long the main thread may wait for a signal before it looks again; nil for as long as it likes.
      def pause
        return unless listening?
        return START_SECONDS unless @ready
        @watchdog_seconds && @watchdog_seconds / 2.0
      end

      # Whether Puma workers that have not beaten for so long hang.
      def hang?(silent_seconds)
        silent_seconds > [@watchdog_seconds.to_f, LEAST_SILENCE_SECONDS].max
      end

      # Once, when jobs can be taken.
      def ready
        return if @ready
        @ready = true
        tell { ::Sidekiq::SdNotify.ready }
      end

      # While the sidecar lives.
      def alive
        tell { ::Sidekiq::SdNotify.watchdog } if @watchdog_seconds
      end

      def stopping
        tell { ::Sidekiq::SdNotify.stopping }
      end

      private

      def listening? = !ENV["NOTIFY_SOCKET"].to_s.empty?

      # A manager that does not listen any more is no reason to end.
      def tell
        yield
      rescue ::Sidekiq::SdNotify::NotifyError => e
        ::Sidekiq.logger.debug { "the service manager could not be told: #{e.message}" }
      end
    end
  end
end
