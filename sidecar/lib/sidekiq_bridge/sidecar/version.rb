# frozen_string_literal: true

module SidekiqBridge
  module Sidecar
    VERSION = "0.1.0"
    PROTOCOL = "2"
  end
end
