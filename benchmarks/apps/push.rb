# frozen_string_literal: true

# Pushes jobs as fast as Sidekiq's client can, one for each round trip.
require "json"
require_relative "jobs"

WARM_UP = 200
WARM_UP.times { NoopJob.perform_async(1) }
clock = ->(id) { Process.clock_gettime(id) }
started = clock[Process::CLOCK_MONOTONIC]
cpu = clock[Process::CLOCK_PROCESS_CPUTIME_ID]
Integer(ENV.fetch("BENCH_JOBS")).times { NoopJob.perform_async(1) }
seconds = clock[Process::CLOCK_MONOTONIC] - started
puts JSON.generate(seconds: seconds, cpu_seconds: clock[Process::CLOCK_PROCESS_CPUTIME_ID] - cpu, warm_up: WARM_UP)
