# frozen_string_literal: true

require "json"
require "openssl"
require "securerandom"

# Headers of the protocol, as the Python client makes them.
module Requests
  module_function

  def headers(boot: nil, delivery: nil, claimed_at: 1, **more)
    {
      "X-Bridge-Protocol" => "1", "X-Bridge-Boot" => boot, "X-Bridge-Queue" => delivery && "default",
      "X-Bridge-Delivery" => delivery, "X-Bridge-Claimed-At" => delivery && claimed_at.to_s,
      **more.transform_keys { |name| "X-Bridge-#{name.to_s.split("_").map(&:capitalize).join("-")}" }.transform_values(&:to_s)
    }.compact
  end

  def signed(headers, secret, method, path, body, now: Time.now.to_i, nonce: SecureRandom.hex(16))
    headers = headers.merge("X-Bridge-Timestamp" => now.to_s, "X-Bridge-Nonce" => nonce)
    lines = headers.map { |name, value| "#{name.downcase}:#{value}" }.grep(/\Ax-bridge-/).sort
    text = ["bridge-v1", method, path, *lines, OpenSSL::Digest::SHA256.hexdigest(body)].join("\n")
    headers.merge("X-Bridge-Signature" => "v1=#{OpenSSL::HMAC.hexdigest("SHA256", secret, text)}")
  end
end
