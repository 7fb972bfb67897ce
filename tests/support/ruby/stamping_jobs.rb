# frozen_string_literal: true

# The same jobs, with client middleware of the app's own.

require_relative "jobs"

class StampingMiddleware
  def call(_job_class, job, _queue, _redis_pool)
    raise "stamping failed" if job["args"] == ["fail"]
    return false if job["args"] == ["halt"]
    job["stamps"] = job["stamps"].to_i + 1
    job.delete("secret")
    yield
  end
end

Sidekiq.configure_server do |config|
  config.client_middleware { |chain| chain.add StampingMiddleware }
end
