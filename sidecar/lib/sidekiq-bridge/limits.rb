# frozen_string_literal: true

# For an app's initializer: processes of Sidekiq beside the bridge keep the bridge's limits.
require "sidekiq_bridge/limits"

SidekiqBridge::Limits.install
