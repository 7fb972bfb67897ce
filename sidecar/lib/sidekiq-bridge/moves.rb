# frozen_string_literal: true

# Reads and changes moves of classes from Ruby to Python, in any process of the app.
require "sidekiq_bridge/moves"
