# frozen_string_literal: true

require "sidekiq_bridge/sidecar/logs/log_quota"
require "sidekiq_bridge/sidecar/logs/log_text"

module SidekiqBridge
  module Sidecar
    # Stands where Puma's stderr stood. Puma quotes requests as they came, has a line for each that is malformed, and one
    # for each connection that cannot be accepted: 1.7 million a minute were seen.
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

      # Rack and Sinatra take it for an open file.
      def close = nil
    end
  end
end
