# frozen_string_literal: true

require "fileutils"
require "tmpdir"

ENV["RAILS_ENV"] = "test"
scratch = Dir.mktmpdir("bridge-demo-test")
ENV["BRIDGE_DEMO_DB"] = "#{scratch}/test.sqlite3"

# The tests empty their Redis: never the one in REDIS_URL, but one of their own or one named for this purpose.
ENV["REDIS_URL"] = ENV.fetch("BRIDGE_TEST_REDIS_URL") { "unix://#{scratch}/redis.sock" }
unless ENV.key?("BRIDGE_TEST_REDIS_URL")
  redis = spawn("redis-server", "--port", "0", "--unixsocket", "#{scratch}/redis.sock", "--save", "", "--dir", scratch,
    out: File::NULL, err: File::NULL)
end

require_relative "../config/environment"
require "minitest"
require "rails/test_help"
require "sidekiq/api"

Minitest.after_run do
  if redis
    Process.kill(:TERM, redis)
    Process.wait(redis)
  end
  FileUtils.remove_entry(scratch)
end

module DemoTest
  READY_WITHIN_SECONDS = 10

  def self.wait_for_redis
    deadline = Process.clock_gettime(Process::CLOCK_MONOTONIC) + READY_WITHIN_SECONDS
    begin
      Sidekiq.redis { |connection| connection.call("PING") }
    rescue StandardError
      raise if Process.clock_gettime(Process::CLOCK_MONOTONIC) > deadline

      sleep(0.02)
      retry
    end
  end

  def self.empty_redis
    Sidekiq.redis { |connection| connection.call("FLUSHALL") }
  end
end

DemoTest.wait_for_redis
