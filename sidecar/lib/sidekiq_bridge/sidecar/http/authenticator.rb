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
      SIGNATURE = /\Av1=[0-9a-f]{64}\z/
      TIMESTAMP = /\A\d{1,12}\z/

      def initialize(secrets, now: -> { Process.clock_gettime(Process::CLOCK_REALTIME, :second) })
        @secrets = secrets
        @now = now
        @nonces = Nonces.new
      end

      def required? = @secrets.any?

      # Cheap, and before the body is read.
      def check_presence(message)
        return if @secrets.empty?
        signed = SIGNATURE.match?(message.signature.to_s) && NONCE.match?(message.nonce.to_s) && TIMESTAMP.match?(message.timestamp.to_s)
        raise Refusals.unsigned unless signed
      end

      def check(message)
        return if @secrets.empty?
        check_signature(message)
        check_freshness(message.timestamp.to_i, message.nonce)
      end

      private

      def check_signature(message)
        text = message.signed_text
        valid = @secrets.map { |secret| matches?(message.signature, OpenSSL::HMAC.hexdigest("SHA256", secret, text)) }
        raise Refusals.signature unless valid.any?
      end

      # In constant time; the lengths are equal, #check_presence has seen to that.
      def matches?(signature, digest) = OpenSSL.fixed_length_secure_compare(signature, "v1=#{digest}")

      def check_freshness(timestamp, nonce)
        now = @now.call
        raise Refusals.timestamp if (now - timestamp).abs > WINDOW_SECONDS
        raise Refusals.replay unless @nonces.remember(nonce, timestamp, now)
      end
    end
  end
end
