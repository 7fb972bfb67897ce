# frozen_string_literal: true

require "sidekiq"
require "sidekiq_bridge/batches/calls"

module SidekiqBridge
  module Batches
    # A batch as of now. Times are epoch seconds; nil: not yet.
    Status = Struct.new(:bid, :description, :parent, :total, :pending, :failed, :dead, :children, :created_at, :complete_at,
      :success_at, :death_at, :open, keyword_init: true) do
      # "open" (its jobs are still being pushed), "running", "complete" (each has run once) or "done".
      def state
        return "done" if success_at
        return "open" if open
        complete_at ? "complete" : "running"
      end
    end

    # Reads batches, for programs and for the Web tab.
    module Reader
      FIELDS = %w[description parent total failed dead children created_at complete_at success_at death_at open].freeze
      STATES = {"w" => "waiting", "f" => "failed", "d" => "dead"}.freeze

      module_function

      # Nil for a batch that Redis does not know.
      def status(bid)
        values, left = ::Sidekiq.redis { |connection| [connection.call("HMGET", Calls.meta(bid), *FIELDS), connection.call("HLEN", Calls.members(bid))] }
        found = FIELDS.zip(values).to_h
        return unless found["created_at"]
        numbers = %w[total failed dead children].to_h { |name| [name.to_sym, found[name].to_i] }
        times = %w[created_at complete_at success_at death_at].to_h { |name| [name.to_sym, found[name]&.to_f] }
        Status.new(bid: bid, description: found["description"].to_s, parent: found["parent"], pending: left - numbers[:children],
          open: !found["open"].nil?, **numbers, **times)
      end

      # The newest batches first.
      def newest(most = 100)
        bids = ::Sidekiq.redis { |connection| connection.call("ZREVRANGE", Calls::INDEX, 0, most - 1) }
        bids.filter_map { |bid| status(bid) }.sort_by { |status| -status.created_at }
      end

      # The first `most` members that the batch waits for: jid (or "batch:<bid>" of a child) to waiting, failed or dead.
      def members(bid, most = 100)
        found, cursor = {}, "0"
        loop do
          cursor, pairs = ::Sidekiq.redis { |connection| connection.call("HSCAN", Calls.members(bid), cursor, "COUNT", 1000) }
          pairs.each_slice(2) { |name, state| found[name] = STATES.fetch(state, "waiting") if found.size < most }
          break if cursor == "0" || found.size >= most
        end
        found
      end
    end
  end
end
