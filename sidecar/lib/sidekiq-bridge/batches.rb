# frozen_string_literal: true

# For an app's initializer: batches in Ruby, and their counts in processes of Sidekiq beside the bridge.
require "sidekiq_bridge/batches"
