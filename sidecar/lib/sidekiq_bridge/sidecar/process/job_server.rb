# frozen_string_literal: true

require "securerandom"
require "sidekiq_bridge/sidecar/execution/dispatcher"
require "sidekiq_bridge/sidecar/execution/executor"
require "sidekiq_bridge/sidecar/http/client_budget"
require "sidekiq_bridge/sidecar/http/fast_routes"
require "sidekiq_bridge/sidecar/http/probe_app"
require "sidekiq_bridge/sidecar/http/puma_server"
require "sidekiq_bridge/sidecar/http/routes"
require "sidekiq_bridge/sidecar/http/signature_gate"
require "sidekiq_bridge/sidecar/http/tunnels"
require "sidekiq_bridge/sidecar/monitoring/counters"
require "sidekiq_bridge/sidecar/monitoring/health"
require "sidekiq_bridge/sidecar/monitoring/metrics"
require "sidekiq_bridge/sidecar/monitoring/vitals"
require "sidekiq_bridge/sidecar/sidekiq/class_guard"
require "sidekiq_bridge/sidecar/sidekiq/cron"
require "sidekiq_bridge/sidecar/stream/streams"

module SidekiqBridge
  module Sidecar
    # One process that serves jobs: the parts, put together, and their life from :startup to :shutdown.
    class JobServer
      attr_reader :health, :app, :executor, :vitals

      # A retiring worker takes jobs for as long as clients need to notice (they ask /health every 5 s), and answers for
      # as long as it takes them to go elsewhere.
      NOTICE_SECONDS = 7
      LINGER_SECONDS = 2

      # `on_drain` is called when a client asks the whole sidecar to drain.
      # `probes` is the listener of the second address, for probes and metrics alone.
      def initialize(settings, listeners:, probes: nil, index: 0, state_files: nil, on_drain: nil, restarts: {})
        @settings = settings
        @family = VersionAdapter.current
        @listeners = listeners
        @probes = probes
        @boot = SecureRandom.hex(8)
        @index = index
        @cron = Cron.new(@family.options)
        @quiet_lock = Mutex.new
        build_executor
        build_transports
        build_health(index, state_files, restarts)
        build_app(on_drain || method(:drain), state_files)
      end

      def start
        @family.fire(:startup)
        @cron.start(@index)
        @executor.start
        @servers = [serve(@app, @listeners, @settings.threads, @budget.main_share(@gate)), *serve_probes]
        @health.booted
      end

      # No new jobs; safe to be asked for more than once.
      def drain
        @executor.drain
        @quiet_lock.synchronize do
          leave_cron_and_fire_quiet unless @quiet
          @quiet = true
        end
      end

      # Leaves in peace, because another one has come: nothing is interrupted, however long it takes.
      def retire
        @vitals.retire
        @retire_at ||= now + NOTICE_SECONDS
      end

      # To be asked once a second, because it is what goes on with it.
      def retired?
        return false unless @retire_at && now >= @retire_at
        drain
        @executor.busy.zero? && now >= @retire_at + LINGER_SECONDS
      end

      # In Sidekiq's order: quiet, :shutdown while the last jobs run, :exit when they have ended.
      def stop
        drain
        deadline = now + @settings.timeout + Streams::FLUSH_SECONDS
        stopping = Thread.new { @executor.stop(@settings.timeout) }
        @family.fire(:shutdown)
        stopping.join
        @streams.close
        @servers&.each(&:stop)
        # If this Puma worker leaves alone its siblings stay: their clients connect again, and ask for what they missed.
        @tunnels&.close(@retire_at ? now : deadline)
        @family.fire(:exit)
      end

      # Where clients reach this Puma worker: at its own address if that is of the shared one's kind, else at the shared one.
      def url
        @listeners.map(&:bind).reverse.find { |bind| bind.scheme == @settings.address.scheme }.to_s
      end

      def abandoned? = @executor.abandoned?

      private

      def serve(app, listeners, slots, share)
        PumaServer.new(app, listeners: listeners, slots: slots, max_body: @settings.max_body, budget: @budget, share: share).tap(&:start)
      end

      def serve_probes
        [serve(ProbeApp.new(@app), [@probes], 0, @budget.metrics_share)] if @probes
      end

      # In this order, as the Launcher that sidekiq-cron extends.
      def leave_cron_and_fire_quiet
        @cron.stop
        @family.fire(:quiet)
      end

      def build_executor
        @guard = ClassGuard.new(allowed: @settings.allow)
        @counters = Counters.new
        @executor = Executor.new(slots: @settings.threads, new_runner: -> { @family.new_runner(@guard) }, counters: @counters)
      end

      def build_transports
        @dispatcher = Dispatcher.new(executor: @executor, guard: @guard, counters: @counters)
        @streams = Streams.new(dispatcher: @dispatcher, busy: @executor.method(:backlog?), max_body: @settings.max_body)
      end

      def build_health(index, state_files, restarts)
        @vitals = Vitals.new(index: index, boot: @boot, url: url, socket: private_socket, executor: @executor,
          streams: @streams, counters: @counters, restarts: restarts)
        @health = Health.new(vitals: @vitals, environment: @settings.environment, timeout: @settings.timeout, state_files: state_files)
      end

      def build_app(on_drain, state_files)
        authenticator = Authenticator.new(@settings.secrets)
        @gate = SignatureGate.new(authenticator, max_body: @settings.max_body)
        @budget = ClientBudget.of_this_process { @counters.refused("connections") }
        api = Api.new(executor: @executor, dispatcher: @dispatcher, streams: @streams, authenticator: authenticator,
          health: @health, boot: @boot, max_body: @settings.max_body, on_drain: on_drain)
        routes = FastRoutes.new(Routes.new(api, Metrics.new(@health)), api)
        @tunnels = Tunnels.new(routes, state_files) if private_socket
        @app = @tunnels || routes
      end

      # Siblings reach this Puma worker there on behalf of clients. Nil if clients can, or if there are no siblings.
      def private_socket
        @listeners.last.bind.path unless @settings.address.unix? || @listeners.size == 1
      end

      def now = Process.clock_gettime(Process::CLOCK_MONOTONIC)
    end
  end
end
