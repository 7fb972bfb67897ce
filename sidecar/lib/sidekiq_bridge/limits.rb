# frozen_string_literal: true

require "sidekiq_bridge/limits/declarations"
require "sidekiq_bridge/limits/gates"
require "sidekiq_bridge/limits/middleware"
require "sidekiq_bridge/limits/process"
require "sidekiq_bridge/stock"

module SidekiqBridge
  # The limits of the bridge in a process of Sidekiq: the same declarations, on the same scripts and keys as the workers.
  # In a sidecar it does nothing: there the worker takes the places.
  module Limits
    class << self
      # The declarations of this process, from BRIDGE_LIMITS or the file that BRIDGE_CONFIG names.
      # Raises ArgumentError with a sentence for a wrong declaration.
      def declared = @declared ||= Declarations.from(ENV)

      # Declares limits in Ruby instead: a list of hashes, as BRIDGE_LIMITS has them.
      def declare(limits)
        @declared = Declarations.new(limits)
        @gates = nil
      end

      def gates = @gates ||= Gates.new(declared.limits)

      def install
        declared
        Stock.outermost_server_middleware(Middleware)
        Stock.configure do |config|
          config.on(:startup) { Process.current.start }
          config.on(:shutdown) { Process.current.leave }
        end
      end
    end
  end
end
