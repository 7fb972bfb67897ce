# frozen_string_literal: true

require_relative "spec_helper"
require "stringio"

RSpec.describe SidekiqBridge::Sidecar::Authenticator do
  let(:now) { 1_700_000_000 }
  let(:authenticator) { described_class.new(%w[new-secret old-secret], now: -> { now }) }
  let(:body) { '{"class":"TracingJob"}' }

  def message(headers, path: "/jobs/execute?a=1", body: self.body)
    env = headers.to_h { |name, value| ["HTTP_#{name.upcase.tr("-", "_")}", value] }
    env.update("REQUEST_METHOD" => "POST", "REQUEST_URI" => path, "rack.input" => StringIO.new(body))
    SidekiqBridge::Sidecar::Request.new(env, max_body: 1000)
  end

  def signed(secret = "new-secret", path: "/jobs/execute?a=1", **options)
    Requests.signed(Requests.headers(boot: "b", delivery: "h:1:a/1", queue: "caf%C3%A9"), secret, "POST", path, body, now: now, **options)
  end

  def check(message)
    authenticator.check(message)
  end

  def refusal(code, status)
    raise_error(SidekiqBridge::Sidecar::RequestError) { |error| expect([error.code, error.http_status]).to eq([code, status]) }
  end

  it "signs the lines that the protocol says, in its order" do
    headers = {"X-Bridge-Protocol" => "2", "X-Bridge-Nonce" => "0" * 32, "X-Bridge-Timestamp" => "1700000000", "X-Bridge-Content-Sha256" => "f" * 64,
               "X-Bridge-Signature" => "v2=unused"}
    text = "bridge-v2\nPOST\n/drain\nx-bridge-content-sha256:#{"f" * 64}\nx-bridge-nonce:#{"0" * 32}\nx-bridge-protocol:2\nx-bridge-timestamp:1700000000"
    expect(message(headers, path: "/drain", body: "").signed_text).to eq(text)
  end

  # Unsigned bodies filled disks: their signature could only be checked when they were there.
  it "checks the headers before there is a body, and uses no nonce up for that" do
    untouched = message(signed, body: nil.to_s)
    expect { authenticator.check_head(untouched) }.not_to raise_error
    expect(untouched.signed_with).to eq("new-secret")
    expect { authenticator.check_head(message(signed("other"))) }.to refusal("signature", 401)
    expect { check(message(signed)) }.not_to raise_error
  end

  it "refuses a request that says nothing of its body" do
    expect { check(message(signed.reject { |name, _| name == "X-Bridge-Content-Sha256" })) }.to refusal("unsigned", 401)
    expect { check(message(signed.merge("X-Bridge-Content-Sha256" => "0" * 64))) }.to refusal("signature", 401)
  end

  it "takes both secrets while they are being changed" do
    expect { check(message(signed)) }.not_to raise_error
    expect { check(message(signed("old-secret"))) }.not_to raise_error
    expect { check(message(signed("other"))) }.to refusal("signature", 401)
  end

  it "refuses what was changed on the way: body, path, any header" do
    expect { check(message(signed, body: body.sub("T", "t"))) }.to refusal("signature", 401)
    expect { check(message(signed, path: "/jobs/execute?a=2")) }.to refusal("signature", 401)
    expect { check(message(signed.merge("X-Bridge-Queue" => "other"))) }.to refusal("signature", 401)
    expect { check(message(signed.merge("X-Bridge-Recovered" => "1"))) }.to refusal("signature", 401)
    expect { check(message(signed.merge("X-Bridge-Signature" => "v2=#{"0" * 64}"))) }.to refusal("signature", 401)
  end

  it "refuses what is not signed at all" do
    expect { check(message(Requests.headers)) }.to refusal("unsigned", 401)
    expect { check(message(signed.reject { |name, _| name == "X-Bridge-Nonce" })) }.to refusal("unsigned", 401)
    expect { check(message(signed.merge("X-Bridge-Nonce" => "short"))) }.to refusal("unsigned", 401)
    expect { check(message(signed.merge("X-Bridge-Signature" => "v2="))) }.to refusal("unsigned", 401)
  end

  it "refuses timestamps that are more than a minute off, either way" do
    [-60, 60].each { |offset| expect { check(message(signed(now: now + offset))) }.not_to raise_error }
    [-61, 61].each { |offset| expect { check(message(signed(now: now + offset))) }.to refusal("timestamp", 403) }
  end

  it "refuses a nonce that it has seen" do
    headers = signed
    check(message(headers))
    expect { check(message(headers)) }.to refusal("replay", 403)
  end

  it "does not remember the nonce of a request whose signature is wrong" do
    nonce = "ab" * 16
    expect { check(message(signed("other", nonce: nonce))) }.to refusal("signature", 401)
    expect { check(message(signed(nonce: nonce))) }.not_to raise_error
  end

  it "forgets nonces that could not be replayed any more, and only those" do
    nonces = SidekiqBridge::Sidecar::Nonces.new(60)
    nonce = "0" * 32
    expect(nonces.remember(nonce, 600, 600)).to be(true)
    expect(nonces.remember("1" * 32, 660, 660)).to be(true)
    expect(nonces.remember(nonce, 600, 660)).to be(false)
    expect(nonces.remember("2" * 32, 780, 780)).to be(true)
    expect(nonces.remember(nonce, 600, 780)).to be(true)
  end

  it "accepts unsigned requests without a secret" do
    expect { described_class.new([]).check(message({})) }.not_to raise_error
  end
end
