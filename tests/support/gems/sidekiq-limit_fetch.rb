# frozen_string_literal: true

# A stub of sidekiq-limit_fetch 4 with the same hook: it prepends a module to Sidekiq's Manager, which starts its own
# bookkeeping of limits. The limits are options of sidekiq.yml (:limits:).

require "sidekiq"
require "sidekiq/manager"

module Sidekiq
  module LimitFetch
    VERSION = "4.4.1"

    module Manager
      def initialize(...)
        super
        LimitFetch.start
      end
    end

    def self.start = nil
  end

  Manager.prepend(LimitFetch::Manager)
end
