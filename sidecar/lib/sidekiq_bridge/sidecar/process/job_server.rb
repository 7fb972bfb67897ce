# frozen_string_literal: true

require "securerandom"
require "sidekiq_bridge/sidecar/execution/dispatcher"
require "sidekiq_bridge/sidecar/execution/executor"
require "sidekiq_bridge/sidecar/execution/notices"
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
require "sidekiq_bridge/sidecar/monitoring/worker_state"
require "sidekiq_bridge/sidecar/sidekiq/census"
require "sidekiq_bridge/sidecar/sidekiq/class_guard"
require "sidekiq_bridge/sidecar/sidekiq/cron"
require "sidekiq_bridge/sidecar/sidekiq/forks"
require "sidekiq_bridge/sidecar/sidekiq/hooks"
require "sidekiq_bridge/sidecar/sidekiq/launcher"
require "sidekiq_bridge/sidecar/sidekiq/notice_handlers"
require "sidekiq_bridge/sidecar/sidekiq/queue_limits"
require "sidekiq_bridge/sidecar/stream/streams"

module SidekiqBridge
  module Sidecar
    # One process that serves jobs: it builds its parts and runs them from :startup to :shutdown.
    class JobServer
      attr_reader :health, :app, :executor, :worker_state

      # A retiring Puma worker takes jobs until clients have noticed (they ask /health every 5 s). Then it answers until
      # they have moved to another one.
      NOTICE_SECONDS = 7
      LINGER_SECONDS = 2

      # A client's request to drain the whole sidecar calls `on_drain`. `probes` is the listener of the second address,
      # for probes and metrics alone.
      def initialize(settings, listeners:, probes: nil, index: 0, state_files: nil, on_drain: nil, restarts: {})
        @settings = settings
        @adapter = VersionAdapter.current
        @listeners = listeners
        @probes = probes
        @boot = SecureRandom.hex(8)
        @index = index
        @hooks = Hooks.new(@adapter, alone: state_files.nil?)
        @cron = Cron.new(@adapter.options)
        @quiet_lock = Mutex.new
        build_executor
        Launcher.install(Launcher.new(draining: @executor.method(:draining?), drain: method(:drain)))
        build_transports
        build_notices
        build_health(index, state_files, restarts)
        build_app(on_drain || method(:drain), state_files)
        Forks.on_fork { abandon }
      end

      # `first`: this process does what a sidecar does once.
      def start(first: true)
        @hooks.start(first: first)
        Census.take_after_startup
        lead_app if first
        @executor.start
        @servers = [serve(@app, @listeners, @settings.threads, @budget.main_share(@gate)), *serve_probes]
        @health.booted
      end

      # This process becomes the first one of the sidecar.
      def lead
        return if @quiet
        @hooks.lead
        lead_app
      end

      # Another process becomes the first one.
      def resign
        @cron.stop
        @hooks.resign
      end

      # Refuses new jobs; a second call is harmless.
      def drain
        @executor.drain
        @quiet_lock.synchronize do
          stop_cron_and_fire_quiet unless @quiet
          @quiet = true
        end
      end

      # Leaves because a new Puma worker has replaced this one: its jobs run to their end, without a time limit.
      def retire
        @worker_state.retire
        @retire_at ||= now + NOTICE_SECONDS
      end

      # The beat calls it once a second; it also starts the drain at its time.
      def retired?
        return false unless @retire_at && now >= @retire_at
        drain
        @executor.busy.zero? && now >= @retire_at + LINGER_SECONDS
      end

      # Stops in Sidekiq's order: quiet, :shutdown while the last jobs run, :exit at the end.
      def stop
        drain
        deadline = now + @settings.timeout + Streams::FLUSH_SECONDS
        stopping = Thread.new { @executor.stop(@settings.timeout) }
        @hooks.fire(:shutdown)
        stopping.join
        @streams.close
        @servers&.each(&:stop)
        # If this Puma worker leaves alone, its siblings stay: its clients connect again and ask for missing outcomes.
        @tunnels&.close(@retire_at ? now : deadline)
        @hooks.fire(:exit)
      end

      # The address at which clients reach this Puma worker: its own if of the shared one's scheme, else the shared one.
      def url
        @listeners.map(&:bind).reverse.find { |bind| bind.scheme == @settings.address.scheme }.to_s
      end

      def abandoned? = @executor.abandoned?

      private

      def lead_app
        @cron.start
        QueueLimits.write
      end

      # In a child that a job forks: closes its copies of the sockets, which would outlive this process.
      def abandon
        [*@listeners, *@probes].each(&:abandon)
        @servers&.each(&:abandon)
        @budget.abandon
        @tunnels&.abandon
      end

      def serve(app, listeners, slots, share)
        PumaServer.new(app, listeners: listeners, slots: slots, max_body: @settings.max_body, budget: @budget, share: share).tap(&:start)
      end

      def serve_probes
        [serve(ProbeApp.new(@app), [@probes], 0, @budget.metrics_share)] if @probes
      end

      # Uses the order of Sidekiq's Launcher, which sidekiq-cron extends.
      def stop_cron_and_fire_quiet
        @cron.stop
        @hooks.fire(:quiet)
      end

      def build_executor
        @guard = ClassGuard.new(allowed: @settings.allow)
        @counters = Counters.new
        @executor = Executor.new(slots: @settings.threads, new_runner: -> { @adapter.new_runner(@guard) }, counters: @counters)
      end

      def build_transports
        @dispatcher = Dispatcher.new(executor: @executor, guard: @guard, counters: @counters)
        @streams = Streams.new(dispatcher: @dispatcher, reader: @executor, busy: @executor.method(:backlog?), max_body: @settings.max_body)
      end

      def build_notices
        @notices = Notices.new(NoticeHandlers.new(@adapter, @guard), @executor.method(:lend))
      end

      def build_health(index, state_files, restarts)
        @worker_state = WorkerState.new(index: index, boot: @boot, url: url, socket: private_socket, executor: @executor,
          streams: @streams, counters: @counters, restarts: restarts)
        @health = Health.new(worker_state: @worker_state, environment: @settings.environment, timeout: @settings.timeout, state_files: state_files)
      end

      def build_app(on_drain, state_files)
        authenticator = Authenticator.new(@settings.secrets)
        @gate = SignatureGate.new(authenticator, max_body: @settings.max_body)
        @budget = ClientBudget.of_this_process { @counters.refused("connections") }
        api = Api.new(executor: @executor, dispatcher: @dispatcher, streams: @streams, notices: @notices, guard: @guard, authenticator: authenticator,
          health: @health, boot: @boot, max_body: @settings.max_body, on_drain: on_drain)
        routes = FastRoutes.new(Routes.new(api, Metrics.new(@health)), api)
        @tunnels = Tunnels.new(routes, state_files) if private_socket
        @app = @tunnels || routes
      end

      # Siblings reach this Puma worker at this socket on behalf of clients. Nil if clients reach it directly, or
      # without siblings.
      def private_socket
        @listeners.last.bind.path unless @settings.address.unix? || @listeners.size == 1
      end

      def now = Process.clock_gettime(Process::CLOCK_MONOTONIC)
    end
  end
end
