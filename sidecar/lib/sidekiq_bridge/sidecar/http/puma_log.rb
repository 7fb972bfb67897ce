# frozen_string_literal: true

require "sidekiq_bridge/sidecar/logs/log_quota"
require "sidekiq_bridge/sidecar/logs/log_text"

module SidekiqBridge
  module Sidecar
    # Replaces Puma's stderr. Puma quotes requests unescaped. It logs a line for each malformed request and each refused
    # connection: a test saw 1.7 million a minute.
    class PumaLog
      LINES_A_MINUTE = 20
      TIME = /\A\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4} /

      def initialize
        @quota = LogQuota.new(LINES_A_MINUTE)
      end

      def write(text)
        @quota.spend do |left_out|
          more = " (#{left_out} more such lines were left out)" if left_out.positive?
          ::Sidekiq.logger.warn { "HTTP server: #{LogText.line(text.to_s.chomp.sub(TIME, ""))}#{more}" }
        end
        text.to_s.bytesize
      end

      alias_method :puts, :write
      alias_method :<<, :write

      def sync = true

      def flush = self

      # Rack and Sinatra treat it as an open file.
      def close = nil
    end
  end
end
