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

      # The headers, if that was not done before, then the body.
      def check(message)
        return message.body if @secrets.empty?
        check_head(message) unless message.head_checked?
        raise Refusals.signature unless message.body_digest == message.content_hash
      end

      # Needs no body: the signature covers its hash, which is a header. So the server asks before it reads one. Uses up
      # the nonce: one recorded request must not have its body taken again and again. The reply is signed from here on.
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

      # In constant time; the lengths are equal, #check_presence has seen to that.
      def matches?(message, secret)
        OpenSSL.fixed_length_secure_compare(message.signature, "v2=#{OpenSSL::HMAC.hexdigest("SHA256", secret, message.signed_text)}")
      end
    end
  end
end
