# frozen_string_literal: true

require "sidekiq_bridge/scripts"

module SidekiqBridge
  module Results
    # Reads and writes the hashes `bridge:result:<jid>`.
    module Store
      PREFIX = "bridge:result:"
      INDEX = "bridge:results"
      # Classes that a worker tracks, for processes that do not have its tasks.
      TRACKED = "bridge:tracked"
      MOST_RECENT = 1000
      DEFAULT_TTL = 86_400

      module_function

      def key(jid) = "#{PREFIX}#{jid}"

      def ttl = Integer(ENV.fetch("BRIDGE_RESULT_TTL_SECONDS", DEFAULT_TTL))

      # Returns the fields; empty without a hash.
      def read(jid)
        found = ::Sidekiq.redis { |redis| redis.call("HGETALL", key(jid)) }
        found.is_a?(Hash) ? found : found.each_slice(2).to_h
      end

      # Returns the jids that changed last, the latest first.
      def recent(most) = ::Sidekiq.redis { |redis| redis.call("ZREVRANGE", INDEX, 0, most - 1) }

      # True if a worker tracks this class.
      def tracked?(class_name)
        ::Sidekiq.redis { |redis| [class_name, "*"].any? { |name| redis.call("SISMEMBER", TRACKED, name) == 1 } }
      end

      # Notes a state that is not the end. `inflight` is the key and the field that fence it, in a sidecar; `only` demands
      # that the run be the one that is noted there. Returns true if it was written.
      def mark(jid, status, fields, run: "", inflight: nil, only: false)
        keys = [key(jid), INDEX, *inflight&.first]
        Scripts.call("result_mark", keys, [*head(status, run), inflight ? inflight.last : (only ? "1" : ""), *fields.flatten]) == 1
      end

      # Notes the end of a run in a process of Sidekiq.
      def settle(jid, status, fields, run: "", only_known: false)
        Scripts.call("result_settled", [key(jid), INDEX], [*head(status, run), only_known ? "1" : "", "", *fields.flatten])
      end

      def head(status, run) = [now, ttl, MOST_RECENT, status, run]

      def now = Process.clock_gettime(Process::CLOCK_REALTIME)
    end
  end
end
