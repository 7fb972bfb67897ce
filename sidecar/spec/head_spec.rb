# frozen_string_literal: true

require_relative "spec_helper"
require "sidekiq_bridge/sidecar/http/head"

RSpec.describe SidekiqBridge::Sidecar::Head do
  it "writes lines, and the blank one" do
    expect(described_class.of("GET / HTTP/1.1", {"Host" => "x", "Baggage" => "caf\u00e9"})).to eq("GET / HTTP/1.1\r\nHost: x\r\nBaggage: caf\u00e9\r\n\r\n".b)
  end

  it "writes no line of another's choice" do
    ["a\r\nX: y", "a\n\nGET /drain HTTP/1.1", "a\0", "a\e[31m", "a\x7f"].each do |text|
      expect { described_class.of("GET / HTTP/1.1", {"X-Bridge-Boot" => text}) }.to raise_error(ArgumentError, /control character/)
      expect { described_class.of("GET /#{text} HTTP/1.1", {}) }.to raise_error(ArgumentError)
      expect { described_class.of("GET / HTTP/1.1", {text => "a"}) }.to raise_error(ArgumentError)
    end
  end
end
