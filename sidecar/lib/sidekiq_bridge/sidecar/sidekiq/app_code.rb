# frozen_string_literal: true

require "sidekiq_bridge/sidecar/sidekiq/version_adapter"

module SidekiqBridge
  module Sidecar
    # Runs code of the app on a thread that is not a slot's: client middleware for a due job, for example.
    #
    # The app sizes its pools (ActiveRecord's, for one) for the job slots. So one thread at a time runs such code, and it
    # gives connections back at the end of each call.
    module AppCode
      LOCK = Mutex.new

      module_function

      # Returns the block's value. A call must be short: others wait for it.
      def run(&block) = LOCK.synchronize { VersionAdapter.current.in_app(&block) }
    end
  end
end
