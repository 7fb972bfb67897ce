# frozen_string_literal: true

module SidekiqBridge
  module Sidecar
    # The app's periodic jobs. Gems for them live in Sidekiq processes; an app that has none of those left would lose its
    # schedule without a word.
    #
    # sidekiq-scheduler begins at :startup and ends at :quiet, events that the sidecar fires. sidekiq-cron hangs its poller
    # on Sidekiq's Launcher, of which the sidecar has none: its poller is started here, as the Launcher would. Both mark each
    # due time in Redis, and who sets the mark enqueues: any number of pollers, here and in Sidekiq processes, is one.
    class Cron
      SIDEKIQ_CRON = "sidekiq-cron"
      # By the constant that it defines: Debian's packages are loaded without RubyGems' knowing.
      SERVED = {SIDEKIQ_CRON => "Sidekiq::Cron::Poller", "sidekiq-scheduler" => "SidekiqScheduler::Scheduler"}.freeze
      # Their leader is elected among Sidekiq processes of their own.
      NOT_SERVED = {"sidekiq-ent" => "Sidekiq::Periodic"}.freeze
      # sidekiq-cron's own default.
      POLL_SECONDS = 30

      class << self
        # Names of the gems for periodic jobs in this process, and of those that nobody runs here.
        def gems = [*SERVED, *NOT_SERVED].select { |_, constant| Object.const_defined?(constant) }.map(&:first)

        def unserved = gems & NOT_SERVED.keys
      end

      def initialize(options)
        @options = options
      end

      # One process of a sidecar is enough.
      def start(index)
        return unless index.zero? && self.class.gems.include?(SIDEKIQ_CRON)
        configure
        return unless @options[:cron_poll_interval].positive?
        @poller = ::Sidekiq::Cron::Poller.new(@options)
        @poller.start
        ::Sidekiq.logger.info { "Polling sidekiq-cron's periodic jobs every #{@options[:cron_poll_interval]} s" }
      end

      def stop = @poller&.terminate

      private

      # As its Launcher does: version 2 has a configuration of its own, version 1 an option of Sidekiq's.
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
