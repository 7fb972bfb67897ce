# frozen_string_literal: true

require "sidekiq_bridge/sidecar/logs/log_text"

module SidekiqBridge
  module Sidecar
    # Replaces Sidekiq's own error handler, which logs the whole job. This one logs the job's identity and its failure,
    # and hides its arguments where the message quotes them.
    class ErrorLog
      SHORTEST = 4
      MOST_VALUES = 500
      HIDDEN = "***"
      # The edges of a word; an underscore ends a word too. The n of an escaped line break does not belong to the next
      # word.
      BEFORE = /(?:(?<![[:alnum:]])|(?<=\\[nrtbfve])|(?<=\\x\h\h)|(?<=\\u\h\h\h\h))/
      AFTER = /(?![[:alnum:]])/

      # Sidekiq 6 calls its handlers with two arguments, 7.1.5 and later with three.
      def call(error, context = {}, _config = nil)
        ::Sidekiq.logger.warn { "#{context[:context] || "error"}: #{error.class.name}: #{LogText.line(message(error, context[:job]))}" }
        ::Sidekiq.logger.warn { error.backtrace.join("\n") } if error.backtrace
      end

      def self.hide(text, args)
        words = values(args).select { |value| text.include?(value) }.sort_by { |value| -value.size }
        words.empty? ? text : text.gsub(Regexp.union(words.map { |value| word(value) }), HIDDEN)
      end

      # Matches whole words only: "fail" stays in "failed".
      def self.word(value)
        before, after = [[BEFORE, value[0]], [AFTER, value[-1]]].map { |edge, char| edge?(char) ? edge : // }
        /#{before}#{Regexp.escape(value)}#{after}/
      end

      # Scripts without capitals (Chinese, Thai, Arabic) may write words without spaces between them.
      def self.edge?(char) = char.match?(/[[:digit:]]/) || char.swapcase != char

      # The leaves of the arguments, as text and as #inspect and JSON write them.
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
      private_class_method :values, :word, :edge?

      private

      def message(error, job)
        # Without a job the parser quotes a payload that is not JSON, and with it the arguments.
        return "the payload is not shown" if job.nil? && error.is_a?(::JSON::ParserError)
        text = error.message.to_s.dup.force_encoding(Encoding::UTF_8).scrub
        job.is_a?(Hash) ? self.class.hide(text, job["args"]) : text
      end
    end
  end
end
