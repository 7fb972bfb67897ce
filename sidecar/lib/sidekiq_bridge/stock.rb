# frozen_string_literal: true

require "sidekiq"

module SidekiqBridge
  # Knows the process that loads the files for apps (sidekiq-bridge/limits and its like).
  module Stock
    module_function

    # True in a sidecar: there the worker does what the gem's middleware does in a process of Sidekiq.
    def sidecar? = defined?(::SidekiqBridge::Sidecar::AppLoader) ? true : false

    # Puts middleware around all other server middleware, in a process of Sidekiq alone.
    def prepend_server_middleware(middleware, *arguments)
      configure { |config| config.server_middleware { |chain| chain.prepend(middleware, *arguments) } }
    end

    # Adds a handler of dead jobs (job, exception), in a process of Sidekiq alone.
    def add_death_handler(handler) = configure { |config| config.death_handlers << handler }

    # Calls the block with Sidekiq's configuration, in a process of Sidekiq alone. Client processes and sidecars skip it.
    def configure(&block)
      ::Sidekiq.configure_server(&block) unless sidecar?
    end
  end
end
