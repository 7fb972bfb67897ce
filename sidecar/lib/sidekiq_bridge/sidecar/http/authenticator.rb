# frozen_string_literal: true

require "openssl"
require "sidekiq_bridge/sidecar/errors"
require "sidekiq_bridge/sidecar/http/nonces"

module SidekiqBridge
  module Sidecar
    # Checks that a request was signed with one of the secrets, recently, and for the first time.
    class Authenticator
      WINDOW_SECONDS = 60
      NONCE = /\A[0-9a-f]{32}\z/
      SIGNATURE = /\Av2=[0-9a-f]{64}\z/
      TIMESTAMP = /\A\d{1,12}\z/
      CONTENT_HASH = /\A[0-9a-f]{64}\z/

      def initialize(secrets, now: -> { Process.clock_gettime(Process::CLOCK_REALTIME, :second) })
        @secrets = secrets
        @now = now
        @nonces = Nonces.new(WINDOW_SECONDS)
      end

      def required? = @secrets.any?

      # Checks the headers unless the server did, then the body.
      def check(message)
        return message.body if @secrets.empty?
        check_head(message) unless message.head_checked?
        raise Refusals.signature unless message.body_digest == message.content_hash
      end

      # Needs no body: the signature covers the body's hash, which is a header. So the server checks before it reads a
      # body. It uses up the nonce: a recorded request must not make the server read its body repeatedly. The sidecar
      # signs the reply from here on.
      def check_head(message)
        return if @secrets.empty?
        check_presence(message)
        message.signed_with = @secrets.find { |secret| matches?(message, secret) } || raise(Refusals.signature)
        raise Refusals.timestamp if (@now.call - message.timestamp.to_i).abs > WINDOW_SECONDS
        raise Refusals.replay unless @nonces.remember(message.nonce, message.timestamp.to_i, @now.call)
        message.head_checked
      end

      private

      def check_presence(message)
        signed = SIGNATURE.match?(message.signature.to_s) && NONCE.match?(message.nonce.to_s) &&
          TIMESTAMP.match?(message.timestamp.to_s) && CONTENT_HASH.match?(message.content_hash.to_s)
        raise Refusals.unsigned unless signed
      end

      # Compares in constant time; #check_presence has made sure that the lengths are equal.
      def matches?(message, secret)
        OpenSSL.fixed_length_secure_compare(message.signature, "v2=#{OpenSSL::HMAC.hexdigest("SHA256", secret, message.signed_text)}")
      end
    end
  end
end
