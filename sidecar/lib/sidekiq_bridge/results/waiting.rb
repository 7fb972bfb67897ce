# frozen_string_literal: true

require "sidekiq"
require "sidekiq_bridge/results/outage"

module SidekiqBridge
  module Results
    # Waits for messages of one channel, on a connection of its own: one of Sidekiq's pool would be missing for pushes.
    module Waiting
      # Seconds until the block looks again: a message may be lost with its connection, and a hash may be evicted.
      LOOK_SECONDS = 15
      # The same on a Redis that drops keys when it is full.
      LOOK_EVICTING_SECONDS = 1
      # Seconds for which an answer about the policy holds.
      POLICY_SECONDS = 60
      # The same where Redis refuses SUBSCRIBE.
      LOOK_ANYWAY_SECONDS = 0.5
      FORBIDDEN = /\ANOPERM|unknown command/i

      module_function

      # Calls the block when the channel is subscribed, at each message, and each LOOK_SECONDS; until it returns something,
      # or `seconds` have passed (nil: no end). Returns that, or nil. Listens again after a lost connection, and raises
      # StoreUnavailable after about 8 s without Redis.
      def until_found(channel, seconds)
        ending = seconds && monotonic + seconds
        outage = Outage.new(ending)
        outage.outlast do
          Outage.translated do
            listen(channel, ending) { Outage.translated { yield }.tap { outage.answered } }
          end
        end
      end

      def listen(channel, ending, &look)
        subscription = ::Sidekiq.redis { |redis| redis_rb?(redis) ? RedisRb.new(redis.dup) : RedisClients.new(redis.pubsub) }
        subscription.listen(channel, ending, &look)
      rescue => e
        raise unless FORBIDDEN.match?(e.message)
        ::Sidekiq.logger.warn { "Redis refuses SUBSCRIBE: a result is read every #{LOOK_ANYWAY_SECONDS} s instead" }
        look_again_and_again(ending, &look)
      ensure
        subscription&.close
      end

      def look_again_and_again(ending)
        while (pause = pause(ending))
          found = yield
          return found if found
          sleep([pause, LOOK_ANYWAY_SECONDS].min)
        end
        yield
      end

      def redis_rb?(redis) = defined?(::Redis) && redis.is_a?(::Redis)

      def monotonic = Process.clock_gettime(Process::CLOCK_MONOTONIC)

      # Seconds to the next look, at least 1 ms; nil when the time is over.
      def pause(ending)
        left = ending ? ending - monotonic : LOOK_SECONDS
        left.clamp(0.001, drops_keys? ? LOOK_EVICTING_SECONDS : LOOK_SECONDS) if left.positive?
      end

      def drops_keys?
        return @drops_keys if monotonic < (@policy_until ||= 0)
        @policy_until = monotonic + POLICY_SECONDS
        said = ::Sidekiq.redis { |redis| redis.call("INFO", "memory") }
        @drops_keys = said[/^maxmemory:(\d+)/, 1].to_i.positive? && said[/^maxmemory_policy:(\S+)/, 1] != "noeviction"
      rescue => e
        raise unless FORBIDDEN.match?(e.message) # a managed Redis may refuse INFO
        @drops_keys = false
      end

      # redis-client, from Sidekiq 7 on.
      class RedisClients
        def initialize(pubsub)
          @pubsub = pubsub
        end

        def listen(channel, ending)
          @pubsub.call("SUBSCRIBE", channel)
          while (pause = Waiting.pause(ending))
            @pubsub.next_event(pause)
            found = yield
            return found if found
          end
          yield
        end

        def close = @pubsub.close
      end

      # redis-rb, up to Sidekiq 6.
      class RedisRb
        def initialize(redis)
          @redis = redis
        end

        def listen(channel, ending, &look)
          while (pause = Waiting.pause(ending))
            found = listen_once(channel, pause, &look)
            return found if found
          end
          look.call
        end

        def close = @redis.close

        private

        # Leaves the loop at once: to unsubscribe would be one more round trip, and the connection is closed anyway.
        def listen_once(channel, pause)
          catch(self) do
            # The client takes the end of the pause for a lost connection, and would wait once more.
            @redis.without_reconnect do
              @redis.subscribe_with_timeout(pause, channel) do |on|
                looked = proc { (found = yield) && throw(self, found) }
                on.subscribe(&looked)
                on.message(&looked)
              end
            end
            nil
          end
        rescue ::Redis::TimeoutError
          nil
        end
      end
    end
  end
end
