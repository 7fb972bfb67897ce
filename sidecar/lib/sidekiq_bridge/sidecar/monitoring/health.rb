# frozen_string_literal: true

require "sidekiq_bridge/sidecar/boot/database_pool"
require "sidekiq_bridge/sidecar/boot/sidekiq_yaml"
require "sidekiq_bridge/sidecar/sidekiq/app_queues"
require "sidekiq_bridge/sidecar/sidekiq/census"
require "sidekiq_bridge/sidecar/sidekiq/cron"
require "sidekiq_bridge/sidecar/sidekiq/version_adapter"
require "sidekiq_bridge/sidecar/version"

module SidekiqBridge
  module Sidecar
    # The content of /health and of its probes.
    class Health
      PUBLIC = %w[index boot pid url slots busy rss_bytes draining].freeze

      # `siblings` are the states of all Puma workers, including this one.
      def initialize(worker_state:, environment:, timeout: nil, state_files: nil)
        @worker_state = worker_state
        @environment = environment
        @timeout = timeout
        @state_files = state_files
        @ready = false
      end

      def booted
        @ready = true
      end

      def status
        return "booting" unless @ready
        own = @worker_state.to_h
        going = own["retiring"] ? states(own).all? { |state| state["draining"] } : own["draining"]
        going ? "draining" : "ready"
      end

      def full
        own = @worker_state.to_h
        all = states(own)
        {"protocol" => PROTOCOL.to_i, "status" => status, "boot" => own["boot"], "version" => VERSION, "streams" => true, "traces_on_streams" => true, "python_bodies" => true, "pushes" => true, "results" => true, "values" => true,
         "now" => Process.clock_gettime(Process::CLOCK_REALTIME), "timeout_seconds" => @timeout,
         **facts, "queues" => AppQueues.merge(all.map { |state| state["queues"] }), "workers" => all.map { |state| state.slice(*PUBLIC) }}
      end

      # This Puma worker's state is current; the others' may be a second old.
      def states(own = @worker_state.to_h)
        others = (@state_files&.states || []).reject { |state| state["index"] == own["index"] }
        [own, *others].sort_by { |state| state["index"] }
      end

      private

      def facts
        @facts ||= versions.merge(rules, Census.to_h)
      end

      def versions
        {
          "ruby" => RUBY_VERSION, "rails" => (::Rails.version if defined?(::Rails) && ::Rails.respond_to?(:version)),
          "sidekiq" => ::Sidekiq::VERSION, "environment" => @environment, "database_pool" => DatabasePool.size
        }
      end

      def rules
        adapter = VersionAdapter.current
        {
          "max_retries" => adapter.max_retries, "dead" => adapter.dead_limits, "timestamps" => adapter.timestamps,
          "metrics_family" => adapter.metrics_family, "client_middleware" => adapter.client_middleware,
          "error_handlers" => adapter.app_error_handlers?,
          "unknown_options" => SidekiqYaml.unknown, "cron" => Cron.gems, "cron_unserved" => Cron.unserved
        }
      end
    end
  end
end
