# frozen_string_literal: true

require "sidekiq_bridge/scripts"

module SidekiqBridge
  # The batch takes no jobs. The message says why, and what to do instead.
  class BatchRefused < StandardError; end

  module Batches
    # The calls of the scripts that move batches on. Keys and rules are those of bridge/batches/calls.py.
    module Calls
      TTL_SECONDS = 30 * 86_400
      PRUNED = 10
      # Seconds between the attempts to write a slice: a repeated one does nothing.
      PAUSES = [0.1, 0.5, 1.5].freeze
      # redis-client's and redis-rb's.
      OUTAGES = %w[RedisClient::ConnectionError Redis::BaseConnectionError].freeze
      INDEX = "bridge:batches"

      module_function

      def meta(bid) = "bridge:batch:#{bid}"

      def members(bid) = "bridge:batch:#{bid}:jobs"

      # Writes one slice. `header` is bid, token, number of the slice, "open" or "add", last?, adder, and the fields of a new batch.
      # `entries` are [jid, queue, at, payload].
      def push(header, entries)
        bid, token, number, mode, last, adder, fields = header
        queues = entries.filter_map { |_, queue, at, _| queue unless at }.uniq
        keys = [meta(bid), members(bid), INDEX, "bridge:batch-push:#{token}", "queues", "schedule"]
        places = queues.each_with_index.to_h { |queue, i| [queue, keys.size + 1 + i] }
        arguments = [bid, number, mode, last ? 1 : 0, adder, TTL_SECONDS, fields.size * 2, *fields.flatten]
        entries.each { |jid, queue, at, payload| arguments.push(jid, at ? "@#{at}" : places[queue], payload) }
        run(bid, "batch_push", keys + queues.map { |queue| "queue:#{queue}" }, arguments)
      end

      # Tells a batch how a run of a job ended: "done", "failed" or "dead".
      def ended(bid, jid, event) = run(bid, "batch_job", [meta(bid), members(bid)], [bid, jid, event])

      def forget(bid, jids) = run(bid, "batch_forget", [meta(bid), members(bid)], [bid, 0, *jids])

      def prune = run("", "batches_prune", [INDEX], [TTL_SECONDS, PRUNED])

      # A batch would wait without end for a counter that Redis has dropped.
      def require_no_eviction
        said = ::Sidekiq.redis { |connection| connection.call("INFO", "memory") }
        policy, most = said[/^maxmemory_policy:(\S+)/, 1], said[/^maxmemory:(\d+)/, 1]
        return unless policy.to_s.start_with?("allkeys") && most.to_i.positive?
        raise BatchRefused, "Redis drops keys when it is full (maxmemory-policy #{policy}), and batches with them: " \
          "CONFIG SET maxmemory-policy noeviction, and write it to redis.conf"
      end

      def run(bid, script, keys, arguments)
        attempts = PAUSES.dup
        begin
          Scripts.call(script, keys, arguments)
        rescue => e
          raise refusal(bid, e.message) || e unless outage?(e) && (pause = attempts.shift)
          sleep pause
          retry
        end
      end

      def outage?(error) = error.class.ancestors.any? { |each| OUTAGES.include?(each.name) }

      def refusal(bid, said)
        case said
        when /\ABATCHGONE/
          BatchRefused.new("Redis knows no batch #{bid}: it was never pushed, or its time is over. Push a new batch.")
        when /\ABATCHFINISHED ([\d.]+)/
          BatchRefused.new("batch #{bid} is finished since #{Time.at($1.to_f).utc.strftime("%F %T")} UTC and takes no jobs. " \
            "Push a new batch, or add the jobs inside one of its own jobs.")
        end
      end
    end
  end
end
