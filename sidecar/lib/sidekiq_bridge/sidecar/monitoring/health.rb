# frozen_string_literal: true

require "sidekiq_bridge/sidecar/boot/database_pool"
require "sidekiq_bridge/sidecar/sidekiq/cron"
require "sidekiq_bridge/sidecar/sidekiq/version_adapter"
require "sidekiq_bridge/sidecar/version"

module SidekiqBridge
  module Sidecar
    # What /health and its probes say.
    class Health
      PUBLIC = %w[index boot pid url slots busy rss_bytes draining].freeze

      # `siblings` are the states of all Puma workers, this one included.
      def initialize(vitals:, environment:, timeout: nil, state_files: nil)
        @vitals = vitals
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
        own = @vitals.to_h
        going = own["retiring"] ? states(own).all? { |state| state["draining"] } : own["draining"]
        going ? "draining" : "ready"
      end

      def full
        own = @vitals.to_h
        {"protocol" => PROTOCOL.to_i, "status" => status, "boot" => own["boot"], "version" => VERSION, "streams" => true, "traces_on_streams" => true,
         "now" => Process.clock_gettime(Process::CLOCK_REALTIME), "timeout_seconds" => @timeout,
         **facts, "workers" => states(own).map { |state| state.slice(*PUBLIC) }}
      end

      # This worker's state is fresh, the others' may be a second old.
      def states(own = @vitals.to_h)
        others = (@state_files&.states || []).reject { |state| state["index"] == own["index"] }
        [own, *others].sort_by { |state| state["index"] }
      end

      private

      def facts
        @facts ||= versions.merge(rules)
      end

      def versions
        {
          "ruby" => RUBY_VERSION, "rails" => (::Rails.version if defined?(::Rails) && ::Rails.respond_to?(:version)),
          "sidekiq" => ::Sidekiq::VERSION, "environment" => @environment, "database_pool" => DatabasePool.size
        }
      end

      def rules
        family = VersionAdapter.current
        {
          "max_retries" => family.max_retries, "dead" => family.dead_limits, "timestamps" => family.timestamps,
          "metrics_family" => family.metrics_family, "client_middleware" => family.client_middleware,
          "cron" => Cron.gems, "cron_unserved" => Cron.unserved
        }
      end
    end
  end
end
