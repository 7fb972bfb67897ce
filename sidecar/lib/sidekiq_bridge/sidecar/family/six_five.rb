# frozen_string_literal: true

require "sidekiq_bridge/sidecar/family/six"
require "sidekiq_bridge/sidecar/family/asking_retrier"

module SidekiqBridge
  module Sidecar
    class Family
      # Sidekiq 6.5: the module is the configuration, and handed around as one.
      class SixFive < Six
        def options = ::Sidekiq

        private

        def make_processor = JobProcessor.new(::Sidekiq)

        def make_retrier = (Family.since?("6.5.2") ? AskingRetrier : Six::Retrier).new(::Sidekiq)
      end
    end
  end
end
