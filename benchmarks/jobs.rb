# frozen_string_literal: true

# Job classes of the benchmarks, for Sidekiq itself and for the sidecar alike.
require "sidekiq"

# Quiet, as in Sidekiq's own load test: a line for each job would be measured instead of the job.
Sidekiq.logger.level = Logger::WARN

class NoopJob
  include Sidekiq::Worker

  def perform(*) = nil
end

class WaitJob
  include Sidekiq::Worker

  def perform(milliseconds) = sleep(milliseconds / 1000.0)
end

class CpuJob
  include Sidekiq::Worker

  def perform(milliseconds)
    deadline = Process.clock_gettime(Process::CLOCK_THREAD_CPUTIME_ID) + milliseconds / 1000.0
    nil while Process.clock_gettime(Process::CLOCK_THREAD_CPUTIME_ID) < deadline
  end
end
