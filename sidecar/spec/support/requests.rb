# frozen_string_literal: true

require "json"
require "openssl"
require "securerandom"

# Headers of the protocol, as the Python client makes them.
module Requests
  module_function

  def headers(boot: nil, delivery: nil, claimed_at: 1, **more)
    {
      "X-Bridge-Protocol" => "2", "X-Bridge-Boot" => boot, "X-Bridge-Queue" => delivery && "default",
      "X-Bridge-Delivery" => delivery, "X-Bridge-Claimed-At" => delivery && claimed_at.to_s,
      **more.transform_keys { |name| "X-Bridge-#{name.to_s.split("_").map(&:capitalize).join("-")}" }.transform_values(&:to_s)
    }.compact
  end

  def signed(headers, secret, method, path, body, now: Time.now.to_i, nonce: SecureRandom.hex(16))
    headers = headers.merge("X-Bridge-Content-Sha256" => OpenSSL::Digest::SHA256.hexdigest(body), "X-Bridge-Timestamp" => now.to_s, "X-Bridge-Nonce" => nonce)
    lines = headers.map { |name, value| "#{name.downcase}:#{value}" }.grep(/\Ax-bridge-/).sort
    text = ["bridge-v2", method, path, *lines].join("\n")
    headers.merge("X-Bridge-Signature" => "v2=#{OpenSSL::HMAC.hexdigest("SHA256", secret, text)}")
  end

  # The X-Bridge-Signature that a reply to the request with this nonce must have.
  def reply_signature(secret, nonce, status, body, headers = {})
    lines = headers.select { |name, _| name.start_with?("x-bridge-") && name != "x-bridge-signature" }.map { |name, value| "#{name}:#{value}" }.sort
    text = ["bridge-v2-reply", nonce, status, *lines, OpenSSL::Digest::SHA256.hexdigest(body)].join("\n")
    "v2=#{OpenSSL::HMAC.hexdigest("SHA256", secret, text)}"
  end
end
