# frozen_string_literal: true

require "sidekiq"

# A stub of sidekiq-grouping, written from its contract: client middleware keeps the jobs of a class that batches in Redis, and
# a timer that starts as the gem is loaded in a server pushes them together.
module SidekiqGrouping
  KEY = "batching"

  class ClientMiddleware
    def call(_job_class, job, _queue, _redis)
      return yield unless job["batch_flush_size"] && !job["grouped"]
      Sidekiq.redis { |connection| connection.call("LPUSH", KEY, JSON.generate([job["class"].to_s, job["args"]])) }
      nil
    end
  end

  def self.flush
    while (kept = Sidekiq.redis { |connection| connection.call("RPOP", KEY) })
      name, args = JSON.parse(kept)
      Sidekiq::Client.push("class" => name, "args" => [args], "grouped" => true)
    end
  end

  Sidekiq.configure_server do |config|
    config.client_middleware { |chain| chain.add ClientMiddleware }
    @timer = Thread.new do
      loop do
        sleep 0.1
        flush
      end
    end
  end
end
