# frozen_string_literal: true

require "sidekiq_bridge/sidecar/errors"

module SidekiqBridge
  module Sidecar
    # Decides when exceptions of the sidecar may hit a thread. A slot's thread is open to them only while the job's own
    # code runs. An exception in the executor would lose the slot or the outcome.
    module Interrupts
      module_function

      def classes
        @classes ||= [::Sidekiq::Shutdown, DeadlineExceeded, Cancelled].freeze
      end

      def closed(&block)
        @closed ||= mask(:never)
        Thread.handle_interrupt(@closed, &block)
      end

      def open(&block)
        @open ||= mask(:immediate)
        Thread.handle_interrupt(@open, &block)
      end

      # Ruby copies a mask that could change at each call.
      def mask(timing) = classes.to_h { |klass| [klass, timing] }.compare_by_identity.freeze

      # An exception raised just as the job ended is still queued in the thread, and would hit the next job.
      def discard_late
        open { Thread.pass } while Thread.pending_interrupt?
      rescue *classes
        retry
      end
    end
  end
end
