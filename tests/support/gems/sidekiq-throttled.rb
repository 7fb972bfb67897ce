# frozen_string_literal: true

# A stub of sidekiq-throttled 2 with the same hooks: `Throttled.throttled?` and `.requeue_throttled` ask a job's Strategy, a module in
# front of Sidekiq's BasicFetch asks them in a process of Sidekiq, and server middleware frees the place. Only limits of
# concurrency, which a sorted set of jids counts.

require "sidekiq"
require "sidekiq/fetch"

module Sidekiq
  module Throttled
    VERSION = "2.0.0"

    Config = Struct.new(:cooldown_period, :cooldown_threshold)

    class Cooldown
      def initialize(config)
        @config = config
        @queues, @rows, @lock = {}, Hash.new(0), Mutex.new
      end

      def notify_throttled(queue)
        @lock.synchronize { @queues[queue] = now + @config.cooldown_period if (@rows[queue] += 1) >= @config.cooldown_threshold }
      end

      def notify_admitted(queue) = @lock.synchronize { @rows.delete(queue) }

      def queues = @lock.synchronize { @queues.select { |_, till| till > now }.keys }

      private

      def now = ::Process.clock_gettime(::Process::CLOCK_MONOTONIC)
    end

    class Strategy
      LOCK = Mutex.new # the gem asks in one script

      def initialize(name, concurrency:, requeue: {})
        @key = "throttled:#{name}:concurrency.v2"
        @limit = concurrency.fetch(:limit)
        @requeue = {with: :enqueue}.merge(requeue)
      end

      def throttled?(jid, *)
        LOCK.synchronize { ::Sidekiq.redis { |redis| !taken?(redis, jid) } }
      end

      def finalize!(jid, *) = ::Sidekiq.redis { |redis| redis.zrem(@key, jid) }

      def requeue_throttled(work)
        target = (@requeue[:to] || work.queue).to_s
        (@requeue[:with] == :schedule) ? reschedule_throttled(work, target) : re_enqueue_throttled(work, target)
      end

      private

      def taken?(redis, jid)
        return true if redis.zscore(@key, jid)
        return false if redis.zcard(@key) >= @limit
        redis.zadd(@key, ::Time.now.to_f, jid)
        true
      end

      def re_enqueue_throttled(work, target)
        ::Sidekiq.redis { |redis| redis.lpush("queue:#{target.delete_prefix("queue:")}", work.job) }
      end

      def reschedule_throttled(work, target)
        item = ::Sidekiq.load_json(work.job)
        ::Sidekiq::Client.enqueue_to_in(target.delete_prefix("queue:"), retry_in(work), ::Object.const_get(item["class"]), *item["args"])
        work.acknowledge
      end

      def retry_in(_work) = 2.0
    end

    class << self
      attr_reader :cooldown, :config

      def strategies = @strategies ||= {}

      def throttled?(payload)
        item = ::Sidekiq.load_json(payload)
        strategies[item["class"]]&.throttled?(item["jid"], *item["args"]) || false
      end

      def requeue_throttled(work) = strategies.fetch(::Sidekiq.load_json(work.job)["class"]).requeue_throttled(work)
    end

    @config = Config.new(1.0, 20)
    @cooldown = Cooldown.new(@config)

    module Job
      def self.included(base) = base.extend(ClassMethods)

      module ClassMethods
        def sidekiq_throttle(**options)
          ::Sidekiq::Throttled.strategies[name] = Strategy.new(name, **options)
        end
      end
    end

    module Patches
      module BasicFetch
        def retrieve_work
          work = super
          return work unless work && ::Sidekiq::Throttled.throttled?(work.job)
          ::Sidekiq::Throttled.requeue_throttled(work)
          nil
        end
      end
    end

    class Middleware
      def call(_instance, job, _queue)
        yield
      ensure
        ::Sidekiq::Throttled.strategies[job["class"]]&.finalize!(job["jid"])
      end
    end
  end

  BasicFetch.prepend(Throttled::Patches::BasicFetch)
  configure_server { |config| config.server_middleware { |chain| chain.add Throttled::Middleware } }
end
