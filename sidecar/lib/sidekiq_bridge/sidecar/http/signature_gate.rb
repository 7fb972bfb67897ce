# frozen_string_literal: true

require "sidekiq_bridge/sidecar/errors"
require "sidekiq_bridge/sidecar/http/request"

module SidekiqBridge
  module Sidecar
    # Checks the signature of a request's headers before the server reads its body. It attaches a refusal to the
    # request.
    class SignatureGate
      REFUSAL = "bridge.refusal"

      def initialize(authenticator, max_body:)
        @authenticator = authenticator
        @max_body = max_body
      end

      def call(env)
        return true unless @authenticator.required?
        request = Request.new(env, max_body: @max_body)
        return false unless request.protocol == PROTOCOL # the reply says which side is older
        @authenticator.check_head(request)
        true
      rescue RequestError => e
        env[REFUSAL] = e
        false
      end
    end
  end
end
