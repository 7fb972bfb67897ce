# frozen_string_literal: true

module SidekiqBridge
  module Sidecar
    # Options of Sidekiq's process that the app sets in an initializer. The sidecar runs no such process: the log says what
    # to write instead.
    class UnusedOptions
      INSTEAD = {
        concurrency: "the sidecar runs --threads jobs at once, and its worker -c",
        timeout: "start the sidecar with --timeout, and the worker with the same time for its stop",
        tag: "the worker writes the process row, set BRIDGE_TAG there",
        labels: "the worker writes the process row, set BRIDGE_LABELS there",
        average_scheduled_poll_interval: "the worker pushes each due job at its time, and does not poll",
        poll_interval_average: "the worker pushes each due job at its time, and does not poll",
        redis_idle_timeout: "the sidecar keeps its connections"
      }.freeze

      # Call #new before the app loads, and #say after it.
      def initialize(adapter)
        @adapter = adapter
        @before = values
      end

      def say(logger)
        values.each do |name, value|
          next if value == @before[name]
          logger.warn { "The app sets Sidekiq's option #{name} to #{value.inspect[0, 100]}, which has no effect here: #{INSTEAD[name]} (docs/gems.md)" }
        end
      end

      private

      def values
        INSTEAD.to_h { |name, _| [name, copy(name)] }
      end

      # An app adds to the list of labels, which is a Set from Sidekiq 7 on.
      def copy(name)
        value = (name == :concurrency) ? @adapter.concurrency : @adapter.options[name]
        value.is_a?(Enumerable) ? value.to_a.dup : value.dup
      end
    end
  end
end
