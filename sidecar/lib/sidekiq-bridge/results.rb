# frozen_string_literal: true

# Results and progress of jobs by jid, in any process of an app: Rails, Sidekiq, or a sidecar.
require "sidekiq_bridge/results"

SidekiqBridge::Results.install
