# frozen_string_literal: true

require_relative "spec_helper"
require "sidekiq_bridge/scripts"

RSpec.describe SidekiqBridge::Scripts do
  let(:script) { described_class::Script.new("return {KEYS[1], ARGV[1], ARGV[2]}") }

  it "runs a text that Redis has never seen, and one that Redis has forgotten" do
    RedisServer.command("SCRIPT FLUSH")
    expect(script.call(["k"], ["zoë", 2])).to eq(%w[k zoë 2])
    RedisServer.command("SCRIPT FLUSH")
    expect(script.call(["k"], ["zoë", 2])).to eq(%w[k zoë 2])
    expect(RedisServer.command("SCRIPT EXISTS #{script.sha}")).to include(":1")
  end

  it "runs over a connection that the caller has" do
    Sidekiq.redis { |connection| expect(script.call(["k"], [1.5, "x"], connection: connection)).to eq(%w[k 1.5 x]) }
  end

  it "hands on what a script returns as an error" do
    failing = described_class::Script.new("return redis.error_reply('ERR of the script')")
    expect { failing.call([]) }.to raise_error(/ERR of the script/)
  end

  it "finds a script by the name of its file" do
    RedisServer.flush
    Sidekiq.redis { |connection| connection.call("ZADD", "bridge:places:x:all", 1, "me") }
    expect(described_class.call("limit_renew", %w[bridge:places:x:all bridge:places:y:all], [15, "me", "other"])).to match([/\A\d+\.\d+\z/, 2])
  end
end
