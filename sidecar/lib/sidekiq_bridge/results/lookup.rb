# frozen_string_literal: true

require "sidekiq/api"
require "sidekiq_bridge/results/errors"
require "sidekiq_bridge/results/middleware"
require "sidekiq_bridge/results/store"

module SidekiqBridge
  module Results
    # Finds a job that has no result hash. Reads queues, sets and the hands of the workers: for the rare case.
    module Lookup
      LEASES = "bridge:lease"
      # A hash of version, queue and payload, line by line.
      INFLIGHT = "bridge:inflight:"
      ARRIVED = "bridge:arrived:"

      module_function

      # True if the job is there and tracked, false if it was not found. Raises NotTracked for any other job.
      def expected?(jid)
        job = waiting(jid) || held(jid) || busy(jid)
        return false unless job
        return true if Results.tracked?(job) || (job[FIELD].nil? && Store.tracked?(Results.class_of(job)))
        name = Results.class_of(job)
        raise NotTracked, "jid=#{jid}: #{name} is not tracked, so its end is written nowhere. Write sidekiq_options bridge_track: true, " \
          "@app.task(track=True), or BRIDGE_TRACK=#{name}"
      end

      def unknown(jid)
        ResultUnknown.new("jid=#{jid}: Redis has no result of it, and no waiting or running job. Was it tracked, is the jid right, or did the " \
          "result expire (BRIDGE_RESULT_TTL_SECONDS)?#{eviction}")
      end

      def waiting(jid)
        queues = ::Sidekiq::Queue.all.lazy.filter_map { |queue| queue.find_job(jid) }
        sets = [::Sidekiq::ScheduledSet, ::Sidekiq::RetrySet].lazy.filter_map { |set| set.new.find_job(jid) }
        (queues.first || sets.first)&.item
      end

      # Jobs in the hands of the bridge's workers. Lists first: a job moves from its list into the hash, and is not missed.
      def held(jid)
        needle = %("#{jid}")
        identities = ::Sidekiq.redis { |redis| redis.call("ZRANGE", LEASES, 0, -1) }
        entries = identities.lazy.flat_map { |identity| arrived(identity) + ::Sidekiq.redis { |redis| redis.call("HVALS", INFLIGHT + identity) } }
        entries.select { |entry| entry.include?(needle) }.filter_map { |entry| parsed(entry) }.find { |job| job["jid"] == jid }
      end

      # Payloads that Redis has moved to the watches of a worker: one list for each watch.
      def arrived(identity)
        set = ARRIVED + identity
        ::Sidekiq.redis do |redis|
          redis.call("SMEMBERS", set).flat_map { |watch| list(redis, "#{set}:#{watch}") }
        end
      end

      # A list that its worker has closed is a string.
      def list(redis, key)
        redis.call("LRANGE", key, 0, -1)
      rescue => e
        raise unless e.message.start_with?("WRONGTYPE")
        []
      end

      # Jobs in the hands of Sidekiq's own processes.
      def busy(jid)
        works = defined?(::Sidekiq::WorkSet) ? ::Sidekiq::WorkSet.new : ::Sidekiq::Workers.new
        works.lazy.map { |_, _, work| payload(work) }.find { |job| job["jid"] == jid }
      end

      def payload(work)
        found = work.respond_to?(:payload) ? work.payload : work["payload"]
        found.is_a?(String) ? ::Sidekiq.load_json(found) : found
      end

      def parsed(entry)
        ::Sidekiq.load_json(entry[entry.index("{")..])
      rescue JSON::ParserError, TypeError
        nil
      end

      def eviction
        policy = ::Sidekiq.redis { |redis| redis.call("INFO", "memory") }[/maxmemory_policy:(\S+)/, 1]
        return if policy.nil? || policy == "noeviction"
        " This Redis drops keys when it is full (#{policy}): set maxmemory-policy noeviction."
      rescue
        nil
      end
    end
  end
end
