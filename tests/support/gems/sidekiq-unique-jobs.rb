# frozen_string_literal: true

# A stub of sidekiq-unique-jobs 8 with the same hooks: client and server middleware, and a death handler. Only
# `lock: :until_executed`: the push takes a lock; the end of the job, or its death, removes it.

require "digest"
require "json"
require "sidekiq"

module SidekiqUniqueJobs
  VERSION = "8.0.11"

  module_function

  def key(job) = "uniquejobs:#{digest(job)}"

  def digest(job) = Digest::MD5.hexdigest(JSON.generate([job["class"], job["args"]]))

  def lock(job)
    job["lock_digest"] = digest(job)
    key = key(job)
    holder = Sidekiq.redis { |redis| redis.get(key) }
    return holder == job["jid"] if holder # a due job passes the middleware again, under its own lock
    Sidekiq.redis { |redis| redis.call("set", key, job["jid"]) }
    true
  end

  def unlock(job)
    Sidekiq.redis { |redis| redis.call("del", "uniquejobs:#{job["lock_digest"]}") }
  end

  class Client
    # Returns nil for a job whose lock another one holds: Sidekiq does not push it.
    def call(_job_class, job, _queue, _pool)
      return yield unless job["lock"]
      yield if SidekiqUniqueJobs.lock(job)
    end
  end

  class Server
    # A failing job keeps its lock, because it will be retried.
    def call(_instance, job, _queue)
      yield.tap { SidekiqUniqueJobs.unlock(job) if job["lock_digest"] }
    end
  end

  DEATH = ->(job, _error) { unlock(job) if job["lock_digest"] }
end

Sidekiq.configure_client do |config|
  config.client_middleware { |chain| chain.add(SidekiqUniqueJobs::Client) }
end

Sidekiq.configure_server do |config|
  config.client_middleware { |chain| chain.add(SidekiqUniqueJobs::Client) }
  config.server_middleware { |chain| chain.add(SidekiqUniqueJobs::Server) }
  config.death_handlers << SidekiqUniqueJobs::DEATH
end
