# frozen_string_literal: true

require "sidekiq_bridge/sidecar/sidekiq/error_log"
require "sidekiq_bridge/sidecar/sidekiq/launcher"

module SidekiqBridge
  module Sidecar
    # The differences between Sidekiq versions, one subclass for each; version_adapter.rb chooses one.
    class VersionAdapter
      FEWEST_DEAD_JOBS = 2
      SHORTEST_DEAD_SECONDS = 60
      IN_REVERSE = %i[quiet shutdown exit].freeze
      OWN_CLIENT_MIDDLEWARE = /\ASidekiq(?:Bridge)?::/

      # True if the loaded Sidekiq is of that version or later.
      def self.since?(version) = Gem::Version.new(::Sidekiq::VERSION) >= Gem::Version.new(version)

      # Returns the object that performs the runs of one slot; the slot's thread calls this.
      def new_runner(guard)
        enter_thread
        make_processor.equip(adapter: self, retrier: new_retrier, guard: guard).tap { |runner| Launcher.runs_here(runner) }
      end

      # Sidekiq's CLI has its configuration before the app loads; gems and jobs read it there.
      def configure_cli(environment)
        cli = ::Sidekiq::CLI.instance
        cli.environment ||= environment
        cli.config ||= options if cli.respond_to?(:config=)
      end

      # Returns Sidekiq's retry code without its writes.
      def new_retrier = make_retrier.equip(adapter: self)

      # True if the app added error handlers to Sidekiq's own.
      def app_error_handlers? = error_handlers.any? { |handler| !handler.is_a?(ErrorLog) }

      # The context of a failed job; up to Sidekiq 6 with the payload's text.
      def error_context(context, _payload) = context

      # Removes Sidekiq's InterruptHandler, which would push, and its Metrics, which would count a second time beside
      # the worker.
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

      # Sidekiq's own handler logs the job's arguments; handlers that the app added stay.
      def replace_error_log
        handlers = error_handlers
        handlers.delete_if { |handler| own_error_log?(handler) }
        handlers.unshift(ErrorLog.new)
      end

      # Fires Sidekiq's lifecycle events; an error in :startup ends the start, as in Sidekiq. The main thread lives as
      # long as the process, so connections that a hook takes must go back.
      def fire(event, once: true)
        return unless events.key?(event) # Sidekiq has :exit from 8.0.2 on
        in_app { component.fire_event(event, reverse: IN_REVERSE.include?(event), reraise: event == :startup, oneshot: once) }
      end

      # The hooks by event; Sidekiq empties a list when it has fired the event.
      def events = options[:lifecycle_events]

      # Runs one hook as #fire would. `quietly` passes an error to the error handlers and nowhere else; the caller handles
      # those of `own`.
      def run_hook(event, hook, quietly: false, own: [])
        in_app { hook.call }
      rescue *own
        raise
      rescue => e
        component.handle_exception(e, {context: "Exception during Sidekiq lifecycle event.", event: event})
        raise unless quietly
      end

      # Runs the block in the app's executor, as a job. Returns its value.
      def in_app
        reloader = options[:reloader]
        return yield if no_reloader?(reloader)
        found = nil
        reloader.call { found = yield }
        found
      end

      def max_retries = options[:max_retries] || ::Sidekiq::JobRetry::DEFAULT_MAX_RETRY_ATTEMPTS

      # A smaller limit would empty the set at each burial, and the worker ignores it.
      def dead_limits
        {"max_jobs" => options[:dead_max_jobs].to_i.clamp(FEWEST_DEAD_JOBS..), "timeout_seconds" => options[:dead_timeout_in_seconds].to_i.clamp(SHORTEST_DEAD_SECONDS..)}
      end

      def client_middleware
        client_chain.map { |entry| entry.klass.to_s }.grep_v(OWN_CLIENT_MIDDLEWARE)
      end

      def server_middleware = chains.flat_map { |chain| chain.map { |entry| entry.klass.to_s } }

      # The class of a fetcher that the app or a gem puts in the place of Sidekiq's; nil for Sidekiq's own.
      def app_fetch
        found = options[:fetch_class] || options[:fetch]
        found = found.class unless found.nil? || found.is_a?(Module)
        found.to_s unless found.nil? || found == ::Sidekiq::BasicFetch
      end

      # The class that the app puts in the place of Sidekiq's own to push due jobs; nil for Sidekiq's.
      def app_enqueuer = options[:scheduled_enq]&.to_s

      def death_handler_count = Array(options[:death_handlers]).size

      # Queues that the app itself names, in its initializers or at :startup; the worker takes their jobs too. The key is a
      # queue's name, the value its capsule (nil without one of its own).
      def app_queues = Array(options[:queues]).to_h { |name| [name.to_s, nil] }

      # Capsules that have server middleware of their own, by queue; from Sidekiq 7 on.
      def capsules_by_queue = {}

      # Names of Sidekiq's own options.
      def known_options = default_options.keys

      # True for the reloader that Sidekiq has without a framework.
      def no_reloader?(reloader) = reloader.nil? || reloader.equal?(default_options[:reloader])

      def timestamps = "seconds"

      # The time, in this version's unit.
      def now = Time.now.to_f

      def enter_thread = nil

      private

      def error_handlers = options[:error_handlers]

      # Chooses by version: 6.4, 6.5, 7 and later.
      def own_error_log?(handler)
        return handler.is_a?(::Sidekiq::ExceptionHandler::Logger) if defined?(::Sidekiq::ExceptionHandler::Logger)
        [(::Sidekiq::DEFAULT_ERROR_HANDLER if defined?(::Sidekiq::DEFAULT_ERROR_HANDLER)),
          (::Sidekiq::Config::ERROR_HANDLER if defined?(::Sidekiq::Config::ERROR_HANDLER))].compact.include?(handler)
      end
    end
  end
end
