# frozen_string_literal: true

require "sidekiq"

module SidekiqBridge
  # Knows the process that loads the files for apps (sidekiq-bridge/limits and its like).
  module Stock
    # How Sidekiq says that a run did not end: a shutdown, a checkpoint, a job that a gem put back.
    NO_END = %w[Sidekiq::Shutdown Sidekiq::Job::Interrupted Sidekiq::JobRetry::Skip].freeze

    module_function

    # Whether the job of a run that raised this runs again without a failure.
    def no_end?(error) = error.class.ancestors.any? { |each| NO_END.include?(each.name) }

    # True in a sidecar: there the worker does what the gem's middleware does in a process of Sidekiq.
    def sidecar? = defined?(::SidekiqBridge::Sidecar::AppLoader) ? true : false

    # Puts middleware around all other server middleware, in a process of Sidekiq alone.
    def prepend_server_middleware(middleware, *arguments)
      configure { |config| config.server_middleware { |chain| chain.prepend(middleware, *arguments) } }
    end

    # Keeps middleware around all other server middleware, also around what the app adds later. A capsule may have a copy of the chain.
    def outermost_server_middleware(middleware)
      prepend_server_middleware(middleware)
      configure do |config|
        config.on(:startup) do
          capsules = config.respond_to?(:capsules) ? config.capsules.values : []
          [config, *capsules].each { |each| each.server_middleware { |chain| chain.prepend(middleware) } }
        end
      end
    end

    # The name of this process on the Busy page.
    def identity
      Object.new.extend(defined?(::Sidekiq::Component) ? ::Sidekiq::Component : ::Sidekiq::Util).identity
    end

    # Adds a handler of dead jobs (job, exception) to a process of Sidekiq, and to the others of the app: the Web UI kills jobs there.
    def add_death_handler(handler)
      configure { |config| config.death_handlers << handler }
      ::Sidekiq.configure_client { |config| config.death_handlers << handler }
    end

    # Calls the block with Sidekiq's configuration, in a process of Sidekiq alone. Client processes and sidecars skip it.
    def configure(&block)
      ::Sidekiq.configure_server(&block) unless sidecar?
    end
  end
end
