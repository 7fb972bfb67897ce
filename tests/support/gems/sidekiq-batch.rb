# frozen_string_literal: true

# A stub of sidekiq-batch with the same hooks: client and server middleware, and a death handler. A job with a `bid`
# belongs to a batch. The hash BID-<bid> counts its jobs: pushed, succeeded, failed (runs) and dead.

require "sidekiq"

module Sidekiq
  class Batch
    VERSION = "0.2.0"

    def self.count(job, field)
      Sidekiq.redis { |redis| redis.call("hincrby", "BID-#{job["bid"]}", field, 1) } if job["bid"]
    end

    class ClientMiddleware
      # A retry passes here again, without a new count.
      def call(_job_class, job, _queue, _pool)
        Batch.count(job, "pushed") unless job["retry_count"]
        yield
      end
    end

    class ServerMiddleware
      def call(_instance, job, _queue)
        yield.tap { Batch.count(job, "succeeded") }
      rescue
        Batch.count(job, "failed")
        raise
      end
    end
  end
end

Sidekiq.configure_client do |config|
  config.client_middleware { |chain| chain.add(Sidekiq::Batch::ClientMiddleware) }
end

Sidekiq.configure_server do |config|
  config.client_middleware { |chain| chain.add(Sidekiq::Batch::ClientMiddleware) }
  config.server_middleware { |chain| chain.add(Sidekiq::Batch::ServerMiddleware) }
  config.death_handlers << ->(job, _error) { Sidekiq::Batch.count(job, "dead") }
end
