# frozen_string_literal: true

require "puma/client"

module SidekiqBridge
  module Sidecar
    # Puma gives a client its time anew with each byte it sends, so that one byte now and then holds a connection for
    # ever. This bounds the time of the whole request; the pause between two requests stays as it is.
    module PumaRequestLimit
      class << self
        attr_accessor :seconds
      end

      def self.install(seconds)
        return if self.seconds
        self.seconds = seconds
        ::Puma::Client.prepend(self)
      end

      # Puma calls it with this very number while a request is coming in, with another one between two requests.
      def set_timeout(seconds)
        super
        return @request_ends_at = nil unless seconds == PumaRequestLimit.seconds
        @request_ends_at ||= @timeout_at
        @timeout_at = @request_ends_at
      end
    end
  end
end
