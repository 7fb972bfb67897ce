# frozen_string_literal: true

require "sidekiq_bridge/sidecar/sidekiq/version_adapter"

module SidekiqBridge
  module Sidecar
    # Fires Sidekiq's lifecycle events in one process of the sidecar.
    #
    # :startup, :quiet, :shutdown and :exit fire in each process, as each of Sidekiq's processes fires them. :heartbeat and
    # :beat fire in the first process only, so that a sidecar of many processes counts once. The hooks of some gems serve
    # the machine and not the process (one HTTP server on one port): they run in the first process as well.
    class Hooks
      # Modules of such gems.
      ONCE = %w[SidekiqAlive].freeze
      # Sidekiq's own pause between two beats.
      BEAT_SECONDS = 10

      # `alone` is true in a sidecar of one process, in which all hooks run in their order.
      def initialize(adapter, alone:)
        @adapter = adapter
        @alone = alone
        @first = false
        @once = alone ? {} : take_out_once
      end

      # Runs :startup. An error ends the start, as in Sidekiq.
      def start(first:)
        @alone ? @adapter.fire(:startup) : start_beside_others
        lead if first
      end

      # This process becomes the first one.
      def lead
        @first = true
        run(:startup)
        @beating = Thread.new { beat }.tap { |thread| thread.name = "bridge.beat" }
      end

      # Another process becomes the first one: frees what it needs, such as a port.
      def resign
        %i[quiet shutdown exit].each { |event| run(event) }
        @first = false
        @beating&.kill
      end

      # Fires :quiet, :shutdown or :exit.
      def fire(event)
        @adapter.fire(event)
        run(event)
        @beating&.kill if event == :exit
      end

      private

      # A server on a port can only start once on a machine. Another process of this sidecar has it, and this process
      # tries again when it becomes the first.
      def start_beside_others
        hooks = @adapter.events[:startup]
        blocks, kept = hooks.dup, []
        hooks.clear
        blocks.each do |block|
          @adapter.run_hook(:startup, block, own: [Errno::EADDRINUSE])
        rescue Errno::EADDRINUSE
          kept << block
        end
        (@once[:startup] ||= []).concat(kept)
      end

      def beat
        @adapter.fire(:heartbeat)
        while @adapter.events.key?(:beat) # from Sidekiq 7 on
          @adapter.fire(:beat, once: false)
          sleep(BEAT_SECONDS)
        end
      end

      def run(event)
        return unless @first
        blocks = @once.delete(event) || []
        blocks = blocks.reverse unless event == :startup
        blocks.each { |block| @adapter.run_hook(event, block, quietly: true) }
      end

      def take_out_once
        @adapter.events.to_h do |event, blocks|
          once, others = blocks.partition { |block| once?(block) }
          blocks.replace(others)
          [event, once]
        end
      end

      # A gem registers its hooks in a method of its module, or in a file of its own.
      def once?(block)
        owner = block.binding.receiver
        ONCE.include?((owner.is_a?(Module) ? owner : owner.class).name.to_s.split("::").first)
      rescue ArgumentError
        false # a method or a C function has no binding
      end
    end
  end
end
