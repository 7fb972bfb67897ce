# frozen_string_literal: true

# A stub of activejob-uniqueness with the same hooks: ActiveJob callbacks, and a death handler of Sidekiq's. Only the
# strategy :until_executed: the enqueue takes a lock; the end of the job, or its death, removes it.

require "active_job"
require "digest"
require "json"
require "sidekiq"

module ActiveJob
  module Uniqueness
    module_function

    def key(name, arguments) = "activejob_uniqueness:#{name}:#{Digest::MD5.hexdigest(JSON.generate(arguments))}"

    def lock(job)
      key = key(job.class.name, job.arguments)
      return false if Sidekiq.redis { |redis| redis.call("get", key) }
      Sidekiq.redis { |redis| redis.call("set", key, job.job_id) }
      true
    end

    def unlock(name, arguments) = Sidekiq.redis { |redis| redis.call("del", key(name, arguments)) }

    # Of a job of ActiveJob inside its wrapper.
    def unlock_sidekiq_job(job)
      inner = job["args"].is_a?(Array) ? job["args"].first : nil
      unlock(inner["job_class"], inner["arguments"]) if inner.is_a?(Hash) && inner["job_class"]
    end
  end
end

Sidekiq.configure_server do |config|
  config.death_handlers << ->(job, _error) { ActiveJob::Uniqueness.unlock_sidekiq_job(job) }
end
