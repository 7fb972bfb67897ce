# frozen_string_literal: true

require "sidekiq_bridge/sidecar/sidekiq/error_log"

module SidekiqBridge
  module Sidecar
    # What differs between the families of Sidekiq versions, one subclass for each; version_adapter.rb chooses among them.
    class VersionAdapter
      FEWEST_DEAD_JOBS = 2
      SHORTEST_DEAD_SECONDS = 60
      OWN_CLIENT_MIDDLEWARE = /\ASidekiq::/

      # Whether the Sidekiq in use is of that version or later.
      def self.since?(version) = Gem::Version.new(::Sidekiq::VERSION) >= Gem::Version.new(version)

      # What performs the runs of one slot; called on the slot's thread.
      def new_runner(guard)
        enter_thread
        make_processor.equip(adapter: self, retrier: make_retrier.equip(adapter: self), guard: guard)
      end

      # Sidekiq's own InterruptHandler would push and its Metrics would count a second time beside the worker.
      def replace_middleware
        chains.each do |chain|
          if defined?(::Sidekiq::Job::InterruptHandler) && chain.exists?(::Sidekiq::Job::InterruptHandler)
            require "sidekiq_bridge/sidecar/sidekiq/interrupt_catcher"
            chain.insert_after(::Sidekiq::Job::InterruptHandler, InterruptCatcher)
            chain.remove(::Sidekiq::Job::InterruptHandler)
          end
          chain.remove(::Sidekiq::Metrics::Middleware) if defined?(::Sidekiq::Metrics::Middleware)
        end
      end

      # Sidekiq's own handler puts the job's arguments into the log; what the app has added stays.
      def replace_error_log
        handlers = error_handlers
        handlers.delete_if { |handler| own_error_log?(handler) }
        handlers.unshift(ErrorLog.new)
      end

      # Sidekiq's lifecycle events; an error in :startup ends the start, as in Sidekiq.
      def fire(event)
        return unless options[:lifecycle_events].key?(event) # :exit is there from 8.0.2 on
        component.fire_event(event, reverse: event != :startup, reraise: event == :startup)
      end

      def max_retries = options[:max_retries] || ::Sidekiq::JobRetry::DEFAULT_MAX_RETRY_ATTEMPTS

      # Less would empty the set at each burial; the worker believes no such limits.
      def dead_limits
        {"max_jobs" => options[:dead_max_jobs].to_i.clamp(FEWEST_DEAD_JOBS..), "timeout_seconds" => options[:dead_timeout_in_seconds].to_i.clamp(SHORTEST_DEAD_SECONDS..)}
      end

      def client_middleware
        client_chain.map { |entry| entry.klass.to_s }.grep_v(OWN_CLIENT_MIDDLEWARE)
      end

      # Whether it is what Sidekiq has where no framework brought one.
      def no_reloader?(reloader) = reloader.nil? || reloader.equal?(default_options[:reloader])

      def timestamps = "seconds"

      def enter_thread = nil

      private

      def error_handlers = options[:error_handlers]

      # By the name that it has had: 6.4, 6.5, 7 and later.
      def own_error_log?(handler)
        return handler.is_a?(::Sidekiq::ExceptionHandler::Logger) if defined?(::Sidekiq::ExceptionHandler::Logger)
        [(::Sidekiq::DEFAULT_ERROR_HANDLER if defined?(::Sidekiq::DEFAULT_ERROR_HANDLER)),
          (::Sidekiq::Config::ERROR_HANDLER if defined?(::Sidekiq::Config::ERROR_HANDLER))].compact.include?(handler)
      end
    end
  end
end
