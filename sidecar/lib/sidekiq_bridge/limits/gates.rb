# frozen_string_literal: true

require "digest/sha1"
require "json"
require "sidekiq"
require "sidekiq_bridge/limits/limit"

module SidekiqBridge
  module Limits
    # One limit for one key.
    Gate = Struct.new(:limit, :key) do
      # The name of its line of waiting jobs.
      def line = "#{limit.name}:#{key}"

      # Places in use, reserved places, waiting jobs, starts: KEYS of the scripts.
      def keys = %w[places reserved waiting starts].map { |kind| "bridge:#{kind}:#{line}" }

      def places = "bridge:places:#{line}"

      # ARGV of the scripts.
      def args = [line, *limit.script_args]
    end

    # The limits that one job meets: the declared ones, and those that it brings along. bridge/limits/gates.py has the same rules.
    class Gates
      OWN = "bridge_limit"
      MOST_QUEUES = 8
      MOST_OWN = 1000
      PLAIN_ID = /\A[\w-]{1,64}\z/

      # The name of a job in a line: its jid, or the SHA-1 of its bytes.
      def self.job_id(job, payload)
        jid = job["jid"].to_s
        PLAIN_ID.match?(jid) ? jid : "sha1:#{Digest::SHA1.hexdigest(payload)}"
      end

      def initialize(declared)
        @declared = declared
        @names = declared.to_h { |limit| [limit.name, true] }
        @own, @queues, @said = {}, {}, {}
        @lock = Mutex.new
      end

      # The gates that a job must pass, narrow ones last: it waits at the last one that is full. `queue` is the name of its queue.
      def of(job, queue)
        name = job["wrapped"] || job["class"]
        found = @declared.select { |limit| limit.covers?(name, queue) }
        found += own(job[OWN], name) if job[OWN]
        found = found.sort_by.with_index { |limit, index| [*limit.narrowness, index] } if found.size > 1
        found.map { |limit| Gate.new(limit, key(limit, job)) }
      end

      # Keys of the queues that the next jobs of these gates may wait for, as far as this process has seen.
      def queues(gates, queue = nil)
        @lock.synchronize do
          names = gates.flat_map do |gate|
            known = (@queues[gate.limit.name] ||= [])
            known << queue if queue && known.size < MOST_QUEUES && !known.include?(queue)
            known
          end
          [queue, *names].compact.uniq.map { |name| "queue:#{name}" }
        end
      end

      # The gate of a line, if this process knows the limit; a name may hold a colon.
      def at(line)
        own = @lock.synchronize { @own.values.flatten }
        limit = [*@declared, *own].select { |each| line.start_with?("#{each.name}:") }.max_by { |each| each.name.size }
        limit && Gate.new(limit, line.delete_prefix("#{limit.name}:"))
      end

      private

      # A value of `bridge_limit` is parsed once.
      def own(value, name)
        @lock.synchronize do
          @own.clear if @own.size > MOST_OWN
          @own[[name, value]] ||= (value.is_a?(Array) ? value.compact : [value]).filter_map { |entry| parsed(entry, name) }
        end
      end

      def parsed(entry, name)
        limit = Limit.own(entry, name)
        limit unless @names[limit.name]
      rescue ArgumentError => e
        say("own #{name}") { "#{name} runs without its own limit: bridge_limit is wrong: #{e.message}" }
        nil
      end

      def key(limit, job)
        return KeyPath::ALL unless limit.key
        limit.key.key(job) || begin
          say(limit.name) { "limit #{limit.name}: jid=#{job["jid"]} has nothing at #{limit.key.text}; such jobs count together, under the key #{KeyPath::MISSING}" }
          KeyPath::MISSING
        end
      end

      # Once for each subject: a class with a million jobs must not fill the log.
      def say(subject)
        return if @said[subject] || @said.size >= 1000
        @said[subject] = true
        ::Sidekiq.logger.warn(yield)
      end
    end
  end
end
