# frozen_string_literal: true

module SidekiqBridge
  module Sidecar
    # Escapes text of other parties for the log. Payloads, requests and exceptions hold control characters. A line break
    # forges a line, and an escape sequence acts on the operator's terminal. Every log of the sidecar passes here.
    module LogText
      # Control characters, Unicode's line separators, and marks that change the direction of text.
      CONTROL = /[\p{Cc}\u2028\u2029\u202A-\u202E\u2066-\u2069]/
      BUT_LINES = /[\p{Cc}\u2028\u2029\u202A-\u202E\u2066-\u2069&&[^\n\t]]/
      PLAIN = /\A[^ "\p{Cc}\u2028\u2029\u202A-\u202E\u2066-\u2069]*\z/
      INDENT = "\n  "
      LONGEST_VALUE = 500

      # Wraps the `call` of any logger's formatter.
      module Escaping
        def call(severity, time, program, message)
          message = LogText.block(message) if message.is_a?(String)
          LogText.with_clean_context { super }
        end
      end

      module_function

      def install(logger)
        loggers = logger.respond_to?(:broadcasts) ? logger.broadcasts : [logger]
        loggers.select { |one| one.respond_to?(:formatter=) }.each do |one|
          one.formatter ||= ::Logger::Formatter.new
          one.formatter = one.formatter.dup if one.formatter.frozen?
          one.formatter.singleton_class.prepend(Escaping)
        end
      end

      # Escapes text for one line.
      def line(text) = escape(text, CONTROL)

      # Keeps line breaks, and indents the later lines so that they cannot look like a record of the log.
      def block(text) = escape(text, BUT_LINES).gsub("\n", INDENT)

      # Escapes a value for one word of a line.
      def word(value)
        text = valid(value.to_s)
        text = "#{text[0, LONGEST_VALUE]}..." if text.size > LONGEST_VALUE
        PLAIN.match?(text) ? text : %("#{escape(text, CONTROL).gsub('"', '\"')}")
      end

      # Sidekiq's formatters write the class, jid and tags of the running job unescaped from its payload.
      def with_clean_context
        context = Thread.current[:sidekiq_context]
        return yield if context.nil? || context.all? { |_, value| clean?(value) }
        begin
          Thread.current[:sidekiq_context] = context.transform_values { |value| clean?(value) ? value : cleaned(value) }
          yield
        ensure
          Thread.current[:sidekiq_context] = context
        end
      end

      def clean?(value)
        case value
        when String then value.size <= LONGEST_VALUE && value.valid_encoding? && PLAIN.match?(value)
        when Numeric, Symbol, nil, true, false then true
        else false
        end
      end

      def cleaned(value) = value.is_a?(Array) ? value.flatten.map { |element| word(element) } : word(value)

      def escape(text, characters)
        text = valid(text)
        characters.match?(text) ? text.gsub(characters) { |character| character.dump[1..-2] } : text
      end

      def valid(text)
        return text if text.valid_encoding? && (text.encoding == Encoding::UTF_8 || text.ascii_only?)
        text.dup.force_encoding(Encoding::UTF_8).scrub
      end
    end
  end
end
