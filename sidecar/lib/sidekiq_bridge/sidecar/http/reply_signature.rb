# frozen_string_literal: true

require "openssl"

module SidekiqBridge
  module Sidecar
    # Proves to a worker that the sidecar it meant wrote this reply to this very request.
    module ReplySignature
      NAME = "x-bridge-signature"
      PREFIX = "x-bridge-"

      module_function

      # `secret` is the one that the request was signed with; `headers` have names in lower case.
      def of(secret, nonce, status, headers, body)
        "v2=#{OpenSSL::HMAC.hexdigest("SHA256", secret, text(nonce, status, headers, body))}"
      end

      def text(nonce, status, headers, body)
        lines = headers.select { |name, _| name.start_with?(PREFIX) && name != NAME }.sort.map { |pair| pair.join(":") }
        ["bridge-v2-reply", nonce, status, *lines, OpenSSL::Digest::SHA256.hexdigest(body)].join("\n")
      end
    end
  end
end
