# frozen_string_literal: true

# The jobs of the fault tests, in an app whose client middleware takes a lock and halts where it is there already. Server
# middleware unlocks when the job begins. LOCK_SECONDS slows each push down.

require_relative "fault_jobs"

class UniqueLock
  def call(_job_class, job, _queue, _redis_pool)
    sleep(Float(ENV.fetch("LOCK_SECONDS", "0")))
    return false unless Sidekiq.redis { |redis| redis.set("lock:#{job["jid"]}", 1, nx: true) }
    job["locked"] = true
    yield
  end
end

class Unlock
  def call(_worker, job, _queue)
    Sidekiq.redis { |redis| redis.del("lock:#{job["jid"]}") }
    yield
  end
end

Sidekiq.configure_server do |config|
  config.client_middleware { |chain| chain.add UniqueLock }
  config.server_middleware { |chain| chain.add Unlock }
end
