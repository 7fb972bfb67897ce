# frozen_string_literal: true

require "sidekiq_bridge/sidecar/sidekiq/processor"
require "sidekiq_bridge/sidecar/sidekiq/version_adapter/asking_retrier"
require "sidekiq_bridge/sidecar/sidekiq/version_adapter/base"

module SidekiqBridge
  module Sidecar
    class VersionAdapter
      # Sidekiq 7: a configuration object and capsules.
      class Seven < VersionAdapter
        # The configuration has the lifecycle events; a processor before 7.3 knows its capsule only.
        class Component
          include ::Sidekiq::Component

          def initialize(config)
            @config = config
          end
        end

        def options = ::Sidekiq.default_configuration

        # A capsule has a copy of the list: 7 and 8.0 use the copy, 8.1.7 the original. A capsule makes its copy when it is
        # first asked: asking it here would leave out what the app adds at :startup.
        def chains = [options.server_middleware, *options.capsules.each_value.filter_map { |capsule| own_chain(capsule) }]

        def client_chain = options.client_middleware

        def concurrency=(threads)
          options.concurrency = threads
        end

        # Sidekiq gives the default capsule the queue "default": that one says nothing about the app.
        def app_queues
          options.capsules.each_with_object({}) do |(name, capsule), found|
            own = name != "default"
            queues = (own || capsule.queues != ["default"]) ? capsule.queues : []
            queues.each { |queue| found[queue.to_s] = (capsule if own) }
          end
        end

        # The app may give a capsule middleware of its own.
        def capsules_by_queue
          own = options.capsules.each_value.select { |capsule| capsule.name != "default" && own_chain(capsule) }
          own.reverse.flat_map { |capsule| capsule.queues.map { |queue| [queue.to_s, capsule] } }.to_h
        end

        def concurrency = options.concurrency

        def lookup(_processor, name) = Object.const_get(name)

        def metrics_family = "7"

        def enter_thread
          Thread.current[:sidekiq_capsule] = options.default_capsule
        end

        private

        def own_chain(capsule) = capsule.instance_variable_get(:@server_chain)

        def default_options = ::Sidekiq::Config::DEFAULTS

        def component = Component.new(options)

        def make_processor = JobProcessor.new(options.default_capsule) {}

        def make_retrier = AskingRetrier.new(options.default_capsule)
      end
    end
  end
end
