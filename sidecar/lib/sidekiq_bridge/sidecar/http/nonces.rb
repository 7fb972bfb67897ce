# frozen_string_literal: true

module SidekiqBridge
  module Sidecar
    # The nonces of the last minutes. Each minute of timestamps has its own set, so that the old ones go all at once. A
    # nonce is an integer of 60 bits: at thousands of requests a second, texts would cost a hundred megabytes.
    class Nonces
      # `window` is the age in seconds up to which the sidecar accepts a timestamp.
      def initialize(window)
        @window = window
        @lock = Mutex.new
        @minutes = {}
      end

      # Returns false if this nonce was seen before.
      def remember(nonce, timestamp, now)
        minute = timestamp / 60
        number = nonce[0, 15].to_i(16)
        @lock.synchronize do
          forget_before((now - @window) / 60) unless @minutes.key?(minute)
          seen = (@minutes[minute] ||= {})
          !seen.key?(number) && (seen[number] = true)
        end
      end

      private

      def forget_before(minute)
        @minutes.delete_if { |key, _| key < minute }
      end
    end
  end
end
