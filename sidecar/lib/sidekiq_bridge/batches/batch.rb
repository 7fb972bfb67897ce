# frozen_string_literal: true

require "securerandom"
require "sidekiq"
require "sidekiq_bridge/batches/block"
require "sidekiq_bridge/batches/callback"
require "sidekiq_bridge/batches/calls"
require "sidekiq_bridge/batches/status"

module SidekiqBridge
  module Batches
    # Jobs of Ruby or Python, and the jobs that follow them: `on_complete` when every job has run once, `on_success` when all are done,
    # `on_death` when the first one is dead. Each is a job class, or the name of one; a callback is an ordinary job.
    class Batch
      EVENTS = %w[complete success death].freeze
      DESCRIPTION_CHARACTERS = 1000
      RUNNING = :sidekiq_bridge_batch_job

      attr_reader :bid, :description

      # The batch with this id, to add jobs to it or to read it.
      def self.find(bid)
        found = Reader.status(bid) || raise(Calls.refusal(bid, "BATCHGONE"))
        allocate.tap { |batch| batch.send(:found, bid, found.description) }
      end

      # The batch of the job that runs in this thread; nil for none.
      def self.current
        job = Thread.current[RUNNING]
        job && find(job[Block::FIELD])
      end

      # The newest batches, as Status.
      def self.all(most = 100) = Reader.newest(most)

      def initialize(description: nil)
        @bid = SecureRandom.hex(12)
        @description = description.to_s
        @callbacks = EVENTS.to_h { |event| [event, []] }
        @new = true
      end

      def on_complete(job, *args) = on("complete", job, args)

      def on_success(job, *args) = on("success", job, args)

      def on_death(job, *args) = on("death", job, args)

      # Collects the pushes inside, and pushes them at the end, all as jobs of this batch. If the block raises, no job is pushed. A batch
      # whose block is inside the block of another batch is its child: the outer one waits for it.
      def jobs(&block)
        outer = Block.current
        collected = new_block(outer)
        Block.within(collected, &block)
        @new && outer.is_a?(Block) ? outer.children << collected : write(collected)
        @new = false
        self
      end

      # Counts of the batch as of now.
      def status = Reader.status(bid) || raise(Calls.refusal(bid, "BATCHGONE"))

      # Waits no longer for these jobs: a person deleted them. Returns for how many the batch waited.
      def forget(*jids) = Calls.forget(bid, jids)

      private

      def found(bid, description)
        @bid, @description, @callbacks, @new = bid, description, {}, false
      end

      def on(event, job, args)
        raise BatchRefused, "on_#{event}: batch #{bid} is pushed already. Name its callbacks before." unless @new
        @callbacks[event] << Callback.of(event, job, args)
        self
      end

      def new_block(outer)
        return Block.new(bid, adder: adder) unless @new
        Block.new(bid, fields: fields(outer.is_a?(Block) ? outer.bid : nil))
      end

      def write(block)
        Calls.require_no_eviction if @new && !block.testing?
        block.write
        Calls.prune if @new && !block.testing?
      end

      # "stamp" is the unit of times in this Sidekiq's payloads.
      def fields(parent)
        stamp = ::Sidekiq::VERSION.to_i < 8 ? "s" : "ms"
        lines = @callbacks.reject { |_, found| found.empty? }.to_h { |event, found| ["on_#{event}", found.map { |each| each.line(parent) }.join] }
        {"stamp" => stamp, **lines, **(parent ? {"parent" => parent} : {}), **(description.empty? ? {} : {"description" => description[0, DESCRIPTION_CHARACTERS]})}
      end

      def adder
        job = Thread.current[RUNNING]
        job && job[Block::FIELD] == bid ? job["jid"].to_s : ""
      end
    end
  end
end
