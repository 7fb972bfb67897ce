# frozen_string_literal: true

require "sidekiq"
require "sidekiq/client"
require "sidekiq_bridge/batches/batch"
require "sidekiq_bridge/batches/client_hook"
require "sidekiq_bridge/batches/ends"
require "sidekiq_bridge/results"
require "sidekiq_bridge/stock"

module SidekiqBridge
  # Batches of Ruby and Python jobs. A worker of the bridge counts the jobs that it settles. This counts the jobs of a process of
  # Sidekiq, and those that a person kills in the Web UI.
  module Batches
    Results.install # first: a chord reads the result that the middleware of results has written
    ::Sidekiq::Client.prepend(ClientHook)
    # In a sidecar too, where it knows the batch of the job that runs. The middleware of limits comes around it: a job that waits
    # there has not run.
    ::Sidekiq.configure_server do |config|
      config.server_middleware { |chain| chain.prepend(ServerMiddleware) }
    end
    Stock.add_death_handler(DeathHandler)
  end

  Batch = Batches::Batch
end
