# frozen_string_literal: true

require "puma/client"

module SidekiqBridge
  module Sidecar
    # Puma restarts a client's time limit with each byte, so a client that sends single bytes could keep a connection.
    # This bounds the time of the whole request; the pause between two requests stays as it is.
    module PumaRequestLimit
      class << self
        attr_accessor :seconds
      end

      def self.install(seconds)
        return if self.seconds
        self.seconds = seconds
        ::Puma::Client.prepend(self)
      end

      # Puma passes this number while a request is coming in, and another one between two requests.
      def set_timeout(seconds)
        super
        return @request_ends_at = nil unless seconds == PumaRequestLimit.seconds
        @request_ends_at ||= @timeout_at
        @timeout_at = @request_ends_at
      end
    end
  end
end
