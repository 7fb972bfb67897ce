# frozen_string_literal: true

require "sidekiq"
require "sidekiq/scheduled"

# A stub of sidekiq-cron 2, written from its contract: a configuration with `enabled`, `cron_poll_interval` and
# `cron_poll_process_count`, and a poller that its Launcher makes with Sidekiq's options. The poller enqueues what is due.
module Sidekiq
  module Cron
    Configuration = Struct.new(:enabled, :cron_poll_interval, :cron_poll_process_count)

    def self.configuration = (@configuration ||= Configuration.new(true, 30, nil))

    class Poller
      def initialize(options)
        @options = options
        @done = false
      end

      def start
        @thread = Thread.new do
          until @done
            enqueue
            sleep 0.02
          end
        end
      end

      # What is due: each round here.
      def enqueue = CRON_ROUND.call(@options)

      def terminate
        @done = true
        @thread&.join
      end
    end
  end
end
