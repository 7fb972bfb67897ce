# frozen_string_literal: true

# A stub of sidekiq-status 4 with the same hooks: client and server middleware keep the hash sidekiq:status:<jid>.

require "sidekiq"

module Sidekiq
  module Status
    VERSION = "4.0.0"

    module_function

    def write(job, status)
      Sidekiq.redis { |redis| redis.call("hset", "sidekiq:status:#{job["jid"]}", "status", status) }
    end

    def retried?(job)
      most = (job["retry"] == true) ? 25 : job["retry"].to_i
      (job["retry_count"] ? job["retry_count"] + 1 : 0) < most
    end

    class ClientMiddleware
      def call(_job_class, job, _queue, _pool)
        Status.write(job, "queued")
        yield
      end
    end

    class ServerMiddleware
      def call(_instance, job, _queue)
        Status.write(job, "working")
        yield.tap { Status.write(job, "complete") }
      rescue
        Status.write(job, Status.retried?(job) ? "retrying" : "failed")
        raise
      end
    end
  end
end

Sidekiq.configure_client do |config|
  config.client_middleware { |chain| chain.add(Sidekiq::Status::ClientMiddleware) }
end

Sidekiq.configure_server do |config|
  config.client_middleware { |chain| chain.add(Sidekiq::Status::ClientMiddleware) }
  config.server_middleware { |chain| chain.add(Sidekiq::Status::ServerMiddleware) }
end
