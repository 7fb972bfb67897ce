# frozen_string_literal: true

require "sidekiq_bridge/sidecar/sidekiq/version_adapter"

module SidekiqBridge
  module Sidecar
    # Runs the app's periodic jobs. Gems for them live in Sidekiq processes: an app without Sidekiq processes would
    # silently lose its schedule.
    #
    # sidekiq-scheduler starts at :startup and stops at :quiet, events that the sidecar fires. sidekiq-cron starts its
    # poller in Sidekiq's Launcher, which the sidecar lacks, so this class starts the poller. Both gems mark each due
    # time in Redis, and the process that sets the mark enqueues. Any number of pollers, here and in Sidekiq processes,
    # therefore enqueues a job once.
    class Cron
      SIDEKIQ_CRON = "sidekiq-cron"
      # Detects a gem by the constant that it defines: RubyGems does not know Debian's packages.
      SERVED = {SIDEKIQ_CRON => "Sidekiq::Cron::Poller", "sidekiq-scheduler" => "SidekiqScheduler::Scheduler"}.freeze
      # These elect their leader among Sidekiq processes only.
      NOT_SERVED = {"sidekiq-ent" => "Sidekiq::Periodic"}.freeze
      # The default of sidekiq-cron.
      POLL_SECONDS = 30

      # The poller pushes jobs through the app's client middleware, on a thread that lives as long as the process.
      module InApp
        def enqueue(...) = VersionAdapter.current.in_app { super }
      end

      class << self
        # Names of the gems for periodic jobs in this process, and of those whose schedule the sidecar cannot run.
        def gems = [*SERVED, *NOT_SERVED].select { |_, constant| Object.const_defined?(constant) }.map(&:first)

        def unserved = gems & NOT_SERVED.keys
      end

      def initialize(options)
        @options = options
      end

      # Starts the poller. Call it in one process of a sidecar.
      def start
        return unless self.class.gems.include?(SIDEKIQ_CRON) && enabled?
        configure
        return unless @options[:cron_poll_interval].positive?
        @poller = ::Sidekiq::Cron::Poller.new(@options).extend(InApp)
        @poller.start
        ::Sidekiq.logger.info { "Polling sidekiq-cron's periodic jobs every #{@options[:cron_poll_interval]} s" }
      end

      def stop = @poller&.terminate

      private

      # Version 2 can be switched off; its Launcher then makes no poller.
      def enabled?
        own = ::Sidekiq::Cron.configuration if ::Sidekiq::Cron.respond_to?(:configuration)
        !own.respond_to?(:enabled) || own.enabled
      end

      # Configures the poller as its Launcher does: version 2 has its own configuration, version 1 an option of
      # Sidekiq's.
      def configure
        if ::Sidekiq::Cron.respond_to?(:configuration)
          own = ::Sidekiq::Cron.configuration
          @options[:cron_poll_interval] = own.cron_poll_interval.to_i
          @options[:cron_poll_process_count] = own.cron_poll_process_count if own.respond_to?(:cron_poll_process_count)
        else
          @options[:cron_poll_interval] ||= POLL_SECONDS
        end
      end
    end
  end
end
