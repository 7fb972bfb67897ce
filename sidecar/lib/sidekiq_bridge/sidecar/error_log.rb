# frozen_string_literal: true

module SidekiqBridge
  module Sidecar
    # Stands where Sidekiq's own error handler stood, which writes the whole job into the log: this one says which job
    # failed and how, and hides its arguments where the message quotes them.
    class ErrorLog
      SHORTEST = 4
      MOST_VALUES = 500
      HIDDEN = "***"

      # Sidekiq 6 calls its handlers with two arguments, 7.1.5 and later with three.
      def call(error, context = {}, _config = nil)
        job = context[:job] || {}
        ::Sidekiq.logger.warn { "#{context[:context] || "error"}: #{error.class.name}: #{message(error, job)}" }
        ::Sidekiq.logger.warn { error.backtrace.join("\n") } if error.backtrace
      end

      def self.hide(text, args)
        values(args).sort_by { |value| -value.size }.reduce(text) { |result, value| result.gsub(value, HIDDEN) }
      end

      # The leaves, as they stand and as #inspect and JSON write them.
      def self.values(args)
        waiting = [args]
        found = []
        until waiting.empty? || found.size >= MOST_VALUES
          case value = waiting.pop
          when Hash then waiting.concat(value.values)
          when Array then waiting.concat(value)
          when String, Numeric then found << value.to_s
          end
        end
        found.flat_map { |text| [text, text.inspect[1..-2], text.dump[1..-2]] }.uniq.select { |text| text.size >= SHORTEST }
      end
      private_class_method :values

      private

      def message(error, job)
        text = error.message.to_s.dup.force_encoding(Encoding::UTF_8).scrub
        job.is_a?(Hash) ? self.class.hide(text, job["args"]) : text
      end
    end
  end
end
