# frozen_string_literal: true

require "sidekiq/api"
require "sidekiq_bridge/results/errors"
require "sidekiq_bridge/results/following"
require "sidekiq_bridge/results/middleware"
require "sidekiq_bridge/results/store"

module SidekiqBridge
  module Results
    # A person deletes a waiting job by Sidekiq's API, in the Web UI for example. No run of it will ever end, so its end is told here:
    # to its batch, to the jobs that follow it, and to those who wait for its result. A job of the dead set has ended before.
    module Deleted
      ERROR = JobFailed.of("Bridge::Cancelled", "deleted by a person")
      BATCHES = "bridge:batches"

      module_function

      def install
        ::Sidekiq::JobRecord.prepend(Entry)
        ::Sidekiq::SortedEntry.prepend(Entry)
        ::Sidekiq::Queue.prepend(All)
        ::Sidekiq::JobSet.prepend(All)
      end

      # True for a job whose end something waits for.
      def told?(job) = job[Following::BATCH_FIELD].is_a?(String) || job[Following::FIELD] || Results.tracked?(job)

      def tell(job)
        Died.call(job, ERROR)
        bid = job[Following::BATCH_FIELD]
        Results.quietly { Following.tell_batch(bid, job["jid"]) } if bid.is_a?(String)
      end

      # Whether Redis has a batch or a tracked job at all.
      def any? = ::Sidekiq.redis { |redis| [BATCHES, Store::INDEX].any? { |key| redis.call("ZCARD", key).to_i.positive? } }

      # One job.
      module Entry
        def delete
          gone = super
          Deleted.tell(item) if (gone == true || gone == 1) && !dead? && Deleted.told?(item)
          gone
        end

        private

        def dead? = respond_to?(:parent) && parent.is_a?(::Sidekiq::DeadSet)
      end

      # All jobs of a queue or a set: the told ones go first, one by one.
      module All
        def clear
          each { |entry| entry.delete if Deleted.told?(entry.item) } if !is_a?(::Sidekiq::DeadSet) && Deleted.any?
          super
        end

        alias_method :💣, :clear
      end
    end
  end
end
