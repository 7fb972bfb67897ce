# frozen_string_literal: true

require "openssl"

module SidekiqBridge
  module Sidecar
    # The code on each frame of a stream, over the frame's number, line and body. Only the two ends can make it, with
    # one Seal for each direction. A relay cannot write, change, repeat or reorder frames.
    class Seal
      # Hexadecimal digits of a code: half of a SHA-256.
      TAG_LENGTH = 32

      # Returns the key of one stream. It depends on nonces of both ends, so that neither end can force a reused key.
      def self.stream_key(secret, request_nonce, reply_nonce, boot)
        OpenSSL::HMAC.digest("SHA256", secret, "bridge-v2-stream\n#{request_nonce}\n#{reply_nonce}\n#{boot}")
      end

      # `direction` is the sender's name: worker or sidecar.
      def initialize(key, direction)
        # Sets the key once: OpenSSL::HMAC.hexdigest looks up key and digest each time, and takes three times as long.
        @hmac = OpenSSL::HMAC.new(OpenSSL::HMAC.digest("SHA256", key, direction), "SHA256")
        @number = 0
      end

      # Returns the code of the next frame.
      def tag(line, body)
        start(line)
        update(body)
        finish
      end

      # Starts the code of a frame whose body comes in pieces.
      def start(line)
        @hmac.reset
        @hmac << "#{@number} #{line}\n"
        @number += 1
      end

      def update(piece)
        @hmac << piece
      end

      def finish = @hmac.hexdigest[0, TAG_LENGTH]

      # True if the frame that was started and updated has this code. Compares in constant time.
      def fits?(tag) = tag.bytesize == TAG_LENGTH && OpenSSL.fixed_length_secure_compare(tag, finish)
    end
  end
end
