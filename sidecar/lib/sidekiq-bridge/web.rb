# frozen_string_literal: true

# The tab "Bridge" in Sidekiq's Web UI. Require it where the app mounts Sidekiq::Web.
require "sidekiq_bridge/web"

SidekiqBridge::Web.install
