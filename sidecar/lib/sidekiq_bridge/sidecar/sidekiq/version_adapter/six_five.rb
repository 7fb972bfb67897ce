# frozen_string_literal: true

require "sidekiq_bridge/sidecar/sidekiq/version_adapter/asking_retrier"
require "sidekiq_bridge/sidecar/sidekiq/version_adapter/six"

module SidekiqBridge
  module Sidecar
    class VersionAdapter
      # Sidekiq 6.5: the Sidekiq module is the configuration, and Sidekiq passes it as one.
      class SixFive < Six
        def options = ::Sidekiq

        private

        def make_processor = JobProcessor.new(::Sidekiq)

        def make_retrier = (VersionAdapter.since?("6.5.2") ? AskingRetrier : Six::Retrier).new(::Sidekiq)
      end
    end
  end
end
