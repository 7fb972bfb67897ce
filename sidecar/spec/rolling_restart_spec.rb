# frozen_string_literal: true

require_relative "spec_helper"
require "sidekiq_bridge/sidecar/process/rolling_restart"

RSpec.describe SidekiqBridge::Sidecar::RollingRestart do
  def states(**megabytes)
    megabytes.to_h { |pid, size| [pid.to_s.delete_prefix("p").to_i, {"index" => 0, "rss_bytes" => size * 1_000_000}] }
  end

  let(:started) { [] }
  let(:retired) { [] }
  let(:rolling_restart) do
    described_class.new(max_rss_bytes: 100_000_000, retire: ->(pid) { retired << pid }, start: lambda do |reason|
      started << reason
      90 + started.size
    end)
  end

  it "starts a new one first, and lets the old one go when that is ready" do
    rolling_restart.step(states(p1: 50, p2: 50))
    rolling_restart.step(states(p1: 50, p2: 150))
    expect([started, retired]).to eq([["memory"], []])
    rolling_restart.step(states(p1: 50, p2: 150))
    expect([started, retired]).to eq([["memory"], []])
    rolling_restart.step(states(p1: 50, p2: 150, p91: 40))
    expect(retired).to eq([2])
  end

  it "replaces one at a time, and the next when the old one has left" do
    rolling_restart.step(states(p1: 50, p2: 50))
    rolling_restart.request([1, 2])
    rolling_restart.step(states(p1: 50, p2: 50))
    rolling_restart.step(states(p1: 50, p2: 50, p91: 40))
    rolling_restart.step(states(p1: 50, p2: 50, p91: 40))
    expect([started, retired]).to eq([["reload"], [1]])
    rolling_restart.ended(1)
    rolling_restart.step(states(p2: 50, p91: 40))
    rolling_restart.step(states(p2: 50, p91: 40, p92: 40))
    expect([started, retired]).to eq([%w[reload reload], [1, 2]])
  end

  it "keeps the old one where the new one does not start" do
    rolling_restart.step(states(p1: 50))
    rolling_restart.request([1])
    rolling_restart.step(states(p1: 50))
    expect(rolling_restart.coming?(91)).to be(true)
    rolling_restart.ended(91)
    rolling_restart.step(states(p1: 50))
    expect([started, retired]).to eq([["reload"], []])
  end

  it "does not replace a Puma worker again and again that is too large from the start" do
    3.times { rolling_restart.step(states(p1: 150)) }
    expect(started).to eq([])
  end
end
