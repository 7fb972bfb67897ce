# frozen_string_literal: true

require_relative "spec_helper"
require "tmpdir"
require "sidekiq_bridge/sidecar/process/state_files"

RSpec.describe SidekiqBridge::Sidecar::StateFiles do
  around { |example| Dir.mktmpdir { |directory| @directory = directory and example.run } }

  let(:now) { [1000.0] }
  let(:files) { described_class.new(@directory, now: -> { now[0] }) }

  it "shows states in the order of the workers, with nothing of its own in them" do
    files.publish(1, "pid" => 2)
    files.publish(0, "pid" => 1)
    expect(files.states).to eq([{"pid" => 1}, {"pid" => 2}])
  end

  it "leaves out who was silent for too long" do
    files.publish(0, "pid" => 1)
    now[0] += 14
    files.publish(1, "pid" => 2)
    now[0] += 2
    expect(files.states).to eq([{"pid" => 2}])
    expect(files.silent_seconds).to eq(2)
  end

  # By the wall clock a step of 15 s made all siblings look dead; after the clock went back, one that hung looked alive.
  it "does not look at the wall clock" do
    files.publish(0, "pid" => 1)
    [-3600, 3600].each do |step|
      allow(Time).to receive(:now).and_return(Time.at(Time.at(0) + step))
      File.utime(Time.at(step.abs), Time.at(step.abs), File.join(@directory, "0"))
      expect(files.states).to eq([{"pid" => 1}])
      expect(files.silent_seconds).to eq(0)
    end
  end

  it "is silent for an infinite time before the first" do
    expect(files.silent_seconds).to eq(Float::INFINITY)
  end
end
