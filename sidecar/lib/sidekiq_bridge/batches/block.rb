# frozen_string_literal: true

require "securerandom"
require "sidekiq"
require "sidekiq_bridge/batches/calls"

module SidekiqBridge
  module Batches
    # The jobs of one `batch.jobs { }` block. They are written in slices: a job enters its queue in the step in which the batch counts
    # it. A batch of one slice is opened, filled and closed in one step.
    class Block
      FIELD = "bridge_batch"
      KEY = :sidekiq_bridge_batch_block
      SLICE_JOBS = 500
      SLICE_BYTES = 1024 * 1024

      # The one that takes the pushes of this thread; nil for none.
      def self.current = Thread.current[KEY]

      # Gives the pushes inside to `block`.
      def self.within(block)
        outer = current
        Thread.current[KEY] = block
        yield
      ensure
        Thread.current[KEY] = outer
      end

      attr_reader :bid, :payloads, :children

      # `fields` are those of a new batch; nil for one that is in Redis. `adder` is the jid of its own job that adds jobs.
      def initialize(bid, fields: nil, adder: "")
        @bid, @fields, @adder = bid, fields, adder
        @payloads, @children = [], []
        @token, @slice = SecureRandom.hex(8), 0
      end

      def add(payloads)
        raise BatchRefused, "batch #{bid}: a job cannot go to another Redis (Sidekiq::Client.via). Push it outside of the batch." if via?
        @payloads.concat(payloads.each { |payload| payload[FIELD] = bid })
      end

      # Writes the jobs, then the child batches, then closes the batch.
      def write
        return Block.within(nil) { hand_on } if testing?
        slices = slice(payloads.map { |payload| entry(payload) })
        slices.each_with_index { |entries, i| write_slice(entries, last: children.empty? && i == slices.size - 1) }
        return if children.empty?
        children.each(&:write)
        write_slice([], last: true)
      end

      private

      def write_slice(entries, last:)
        Calls.push([bid, @token, @slice += 1, @fields ? "open" : "add", last, @adder, @fields.to_a], entries)
      end

      # As Sidekiq's client writes them.
      def entry(payload)
        at = payload.delete("at")
        payload["enqueued_at"] = payload["created_at"].is_a?(Integer) ? (Time.now.to_f * 1000).to_i : Time.now.to_f unless at
        [payload["jid"], payload["queue"], at, ::Sidekiq.dump_json(payload)]
      end

      # At least one, which may be empty.
      def slice(entries)
        found, size = [[]], 0
        entries.each do |entry|
          found, size = found.push([]), 0 if found.last.size == SLICE_JOBS || (found.last.any? && size + entry.last.bytesize > SLICE_BYTES)
          found.last << entry
          size += entry.last.bytesize
        end
        found
      end

      def via? = Thread.current[:sidekiq_via_pool] || Thread.current[:sidekiq_redis_pool]

      # Sidekiq::Testing keeps jobs in memory, or runs them at once: Redis has no batch, and no callback follows.
      public def testing? = defined?(::Sidekiq::Testing) && ::Sidekiq::Testing.enabled?

      def hand_on
        payloads.each { |payload| ::Sidekiq::Client.new.send(:raw_push, [payload]) }
        children.each(&:write)
      end
    end
  end
end
