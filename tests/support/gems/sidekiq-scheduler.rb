# frozen_string_literal: true

require "sidekiq"

# A stub of sidekiq-scheduler 6, written from its contract: it loads its schedule at :startup, runs it on a thread of its own,
# and clears it at :quiet.
module SidekiqScheduler
  class Scheduler
    class << self
      attr_reader :running

      def load_schedule!
        @running = true
        @thread = Thread.new { sleep }
      end

      def clear!
        @thread&.kill
        @running = false
      end
    end
  end

  Sidekiq.configure_server do |config|
    config.on(:startup) { Scheduler.load_schedule! }
    config.on(:quiet) { Scheduler.clear! }
  end
end
