# frozen_string_literal: true

# An app that keeps the bridge's limits also in its processes of Sidekiq.

require_relative "jobs"
$LOAD_PATH.unshift(File.expand_path("../../../sidecar/lib", __dir__))
require "sidekiq-bridge/limits"

# Server middleware of the app, which a waiting job must not reach.
class SeenMiddleware
  def call(_instance, job, _queue)
    Ledger.of(job, "seen")
    yield
  end
end

Sidekiq.configure_server { |config| config.server_middleware { |chain| chain.prepend(SeenMiddleware) } }

class OwnLimitJob < SleepJob
  sidekiq_options bridge_limit: {"concurrency" => 1, "key" => "args.1"}

  def perform(seconds, _key) = super(seconds)
end

class LimitedFailJob < FailJob; end

class RatedJob < EchoJob; end
