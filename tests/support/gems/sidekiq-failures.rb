# frozen_string_literal: true

# A stub of sidekiq-failures with the same hook: server middleware adds each failed run to the set `failed`.

require "json"
require "sidekiq"

module Sidekiq
  module Failures
    VERSION = "1.0.4"

    class Middleware
      def call(_instance, job, _queue)
        yield
      rescue => e
        entry = job.merge("exception" => e.class.to_s, "error_message" => e.message, "failed_runs" => job["retry_count"].to_i)
        Sidekiq.redis { |redis| redis.call("zadd", "failed", ::Process.clock_gettime(::Process::CLOCK_REALTIME), JSON.generate(entry)) }
        raise
      end
    end
  end
end

Sidekiq.configure_server do |config|
  config.server_middleware { |chain| chain.add(Sidekiq::Failures::Middleware) }
end
