# frozen_string_literal: true

require_relative "spec_helper"
require "sidekiq_bridge/sidecar/process/rolling_restart"

RSpec.describe SidekiqBridge::Sidecar::RollingRestart do
  def states(**megabytes)
    megabytes.to_h { |pid, size| [pid.to_s.delete_prefix("p").to_i, {"index" => 0, "rss_bytes" => size * 1_000_000}] }
  end

  let(:started) { [] }
  let(:retired) { [] }
  let(:rollover) do
    described_class.new(max_rss_bytes: 100_000_000, retire: ->(pid) { retired << pid }, start: lambda do |reason|
      started << reason
      90 + started.size
    end)
  end

  it "starts a new one first, and lets the old one go when that is ready" do
    rollover.step(states(p1: 50, p2: 50))
    rollover.step(states(p1: 50, p2: 150))
    expect([started, retired]).to eq([["memory"], []])
    rollover.step(states(p1: 50, p2: 150))
    expect([started, retired]).to eq([["memory"], []])
    rollover.step(states(p1: 50, p2: 150, p91: 40))
    expect(retired).to eq([2])
  end

  it "replaces one at a time, and the next when the old one has left" do
    rollover.step(states(p1: 50, p2: 50))
    rollover.request([1, 2])
    rollover.step(states(p1: 50, p2: 50))
    rollover.step(states(p1: 50, p2: 50, p91: 40))
    rollover.step(states(p1: 50, p2: 50, p91: 40))
    expect([started, retired]).to eq([["reload"], [1]])
    rollover.ended(1)
    rollover.step(states(p2: 50, p91: 40))
    rollover.step(states(p2: 50, p91: 40, p92: 40))
    expect([started, retired]).to eq([%w[reload reload], [1, 2]])
  end

  it "keeps the old one where the new one does not start" do
    rollover.step(states(p1: 50))
    rollover.request([1])
    rollover.step(states(p1: 50))
    expect(rollover.coming?(91)).to be(true)
    rollover.ended(91)
    rollover.step(states(p1: 50))
    expect([started, retired]).to eq([["reload"], []])
  end

  it "does not replace for ever what is too large from the start" do
    3.times { rollover.step(states(p1: 150)) }
    expect(started).to eq([])
  end
end
