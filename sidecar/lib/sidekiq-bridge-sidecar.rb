# frozen_string_literal: true

# What `gem "sidekiq-bridge-sidecar"` in a Gemfile loads into every process of the app: next to nothing.
# bin/sidecar loads the rest, in its own process only.
require "sidekiq_bridge/sidecar/version"
