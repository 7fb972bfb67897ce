# frozen_string_literal: true

require "openssl"

module SidekiqBridge
  module Sidecar
    # The code on each frame of a stream, which only its two ends can make: of the frame's number, its line and its body.
    # One Seal for each direction. What passes a relay cannot be written, changed, repeated or reordered there.
    class Seal
      # Half of a SHA-256, in hex digits.
      TAG_LENGTH = 32

      # The key of one stream: with nonces of both ends, so that neither can be made to use a key twice.
      def self.stream_key(secret, request_nonce, reply_nonce, boot)
        OpenSSL::HMAC.digest("SHA256", secret, "bridge-v2-stream\n#{request_nonce}\n#{reply_nonce}\n#{boot}")
      end

      # `direction` is the sender's name: worker or sidecar.
      def initialize(key, direction)
        # Keyed once: OpenSSL::HMAC.hexdigest, which looks up key and digest each time, takes three times as long.
        @hmac = OpenSSL::HMAC.new(OpenSSL::HMAC.digest("SHA256", key, direction), "SHA256")
        @number = 0
      end

      # The code of the next frame.
      def tag(line, body)
        start(line)
        update(body)
        finish
      end

      # The same for a body that comes in pieces.
      def start(line)
        @hmac.reset
        @hmac << "#{@number} #{line}\n"
        @number += 1
      end

      def update(piece)
        @hmac << piece
      end

      def finish = @hmac.hexdigest[0, TAG_LENGTH]

      # Whether the frame that was started and updated has this code. In constant time.
      def fits?(tag) = tag.bytesize == TAG_LENGTH && OpenSSL.fixed_length_secure_compare(tag, finish)
    end
  end
end
