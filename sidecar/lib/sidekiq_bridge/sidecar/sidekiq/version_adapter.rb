# frozen_string_literal: true

require "sidekiq_bridge/sidecar/sidekiq/version_adapter/base"

module SidekiqBridge
  module Sidecar
    # Chooses the adapter for the loaded Sidekiq; the rest of the sidecar asks that adapter.
    class VersionAdapter
      def self.current
        @current ||= load_for(::Sidekiq::VERSION.to_i)
      end

      def self.load_for(major)
        if !since?("6.5") then require("sidekiq_bridge/sidecar/sidekiq/version_adapter/six") && Six.new
        elsif major == 6 then require("sidekiq_bridge/sidecar/sidekiq/version_adapter/six_five") && SixFive.new
        elsif major == 7 then require("sidekiq_bridge/sidecar/sidekiq/version_adapter/seven") && Seven.new
        else require("sidekiq_bridge/sidecar/sidekiq/version_adapter/eight") && Eight.new
        end
      end
      private_class_method :load_for
    end
  end
end
