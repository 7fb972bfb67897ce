# frozen_string_literal: true

# Job classes of the benchmarks, for Sidekiq itself and for the sidecar alike.
require "sidekiq"

# Quiet, as in Sidekiq's own load test: a line for each job (or failure) would be measured instead of the job.
Sidekiq.logger.level = Logger::FATAL

if ENV["BENCH_POLL"].to_f.positive?
  Sidekiq.configure_server { |config| config.average_scheduled_poll_interval = ENV["BENCH_POLL"].to_f }
end

class NoopJob
  include Sidekiq::Worker

  def perform(*) = nil
end

class WaitJob
  include Sidekiq::Worker

  def perform(milliseconds, *) = sleep(milliseconds / 1000.0)
end

class CpuJob
  include Sidekiq::Worker

  def perform(milliseconds, *)
    deadline = Process.clock_gettime(Process::CLOCK_THREAD_CPUTIME_ID) + milliseconds / 1000.0
    nil while Process.clock_gettime(Process::CLOCK_THREAD_CPUTIME_ID) < deadline
  end
end

class FailJob
  include Sidekiq::Worker

  def perform(*)
    raise "on purpose"
  end
end

# Writes down how many nanoseconds ago it was pushed, then waits.
class ProbeJob
  include Sidekiq::Worker

  FILE = ENV["BENCH_PROBES"] && File.open(ENV["BENCH_PROBES"], "a").tap { |file| file.sync = true }

  def perform(pushed_ns, milliseconds = 0, *)
    FILE.syswrite("#{Process.clock_gettime(Process::CLOCK_MONOTONIC, :nanosecond) - pushed_ns}\n")
    sleep(milliseconds / 1000.0) if milliseconds.positive?
  end
end
