# frozen_string_literal: true

require "sidekiq_bridge/sidecar/sidekiq/version_adapter"

module SidekiqBridge
  module Sidecar
    # Queues that the app or its gems register as it starts, in the words of /health.
    module AppQueues
      module_function

      # `ahead` is true for a queue that must not wait behind others: a job in it keeps this sidecar alive.
      def report
        VersionAdapter.current.app_queues.map do |name, capsule|
          {"name" => name, "concurrency" => capsule&.concurrency, "capsule" => capsule&.name.to_s, "ahead" => name == own_of_sidekiq_alive}
        end
      end

      # The lists of several processes, each queue once.
      def merge(lists) = lists.flatten.uniq { |queue| queue["name"] }

      def own_of_sidekiq_alive
        ::SidekiqAlive.current_queue if defined?(::SidekiqAlive) && ::SidekiqAlive.respond_to?(:current_queue)
      rescue StandardError
        nil # the gem could not say
      end
    end
  end
end
