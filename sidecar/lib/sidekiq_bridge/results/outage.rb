# frozen_string_literal: true

require "sidekiq"
require "sidekiq_bridge/results/errors"

module SidekiqBridge
  module Results
    # Outlasts a lost connection: Redis restarts in a moment, and a proxy cuts silent connections.
    class Outage
      # Seconds between the attempts, once a connection is lost.
      PAUSES = [0, 0.5, 1, 2, 4].freeze
      # A Redis that has answered, and was not lost for this number of seconds, was back: the pauses begin again.
      SERVED_SECONDS = 1

      class << self
        # Yields, and raises StoreUnavailable for a lost connection.
        def translated
          yield
        rescue => e
          raise unless lost?(e)
          raise StoreUnavailable, "Redis does not answer: #{e.class}: #{e.message}"
        end

        private

        # redis-rb up to Sidekiq 6, redis-client from Sidekiq 7 on.
        def lost?(error)
          (defined?(::Redis::BaseConnectionError) && error.is_a?(::Redis::BaseConnectionError)) ||
            (defined?(::RedisClient::ConnectionError) && error.is_a?(::RedisClient::ConnectionError)) || error.is_a?(SystemCallError)
        end
      end

      # `ending` is a time of the monotonic clock, or nil.
      def initialize(ending)
        @ending = ending
        @lost = 0
      end

      # Yields until that raises no StoreUnavailable. Raises the last one where Redis was away for about 8 s, or the time is over.
      def outlast
        began = now
        @answered = false
        yield
      rescue StoreUnavailable
        raise unless pause(began)
        retry
      end

      # Redis has answered.
      def answered = (@answered = true)

      private

      def pause(began)
        @lost = 0 if @answered && now - began >= SERVED_SECONDS
        seconds = PAUSES[@lost]
        @lost += 1
        return false if seconds.nil? || (@ending && now + seconds >= @ending)
        sleep(seconds)
        true
      end

      def now = Process.clock_gettime(Process::CLOCK_MONOTONIC)
    end
  end
end
