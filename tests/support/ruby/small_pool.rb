# frozen_string_literal: true

# A Rails app whose database pool has exactly as many connections as there are job slots, and code of the app that
# queries the database in each place where Sidekiq calls it.

require "rails"
require "active_record/railtie"
require_relative "jobs"
require "sidekiq/rails"

DATABASE = File.join(File.dirname(Ledger::PATH), "small-pool.sqlite3")
POOL = Integer(ENV.fetch("TEST_POOL"))

class SmallPool < Rails::Application
  config.root = File.dirname(Ledger::PATH)
  config.load_defaults Rails::VERSION::STRING.to_f
  config.eager_load = false
  config.logger = Logger.new(IO::NULL)
  config.secret_key_base = "only a test"
end

ENV["DATABASE_URL"] = "sqlite3:#{DATABASE}?pool=#{POOL}&checkout_timeout=2&timeout=5000"

def query = ActiveRecord::Base.connection.select_value("SELECT 1")

class QueryingMiddleware
  def call(*)
    query
    yield
  end
end

class QueryJob
  include JOB
  include Listed

  def perform(seconds = 0.3)
    query
    sleep seconds
    query
    note("done")
  end
end

Sidekiq.configure_server do |config|
  config.client_middleware { |chain| chain.add QueryingMiddleware }
  config.on(:startup) { query }
  config.on(:heartbeat) { query }
  config.on(:beat) { query } if Sidekiq::VERSION.to_i >= 7
end

SmallPool.initialize!
