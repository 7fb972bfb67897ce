# frozen_string_literal: true

require_relative "spec_helper"
require "sidekiq_bridge/sidecar/process/first_process"
require "sidekiq_bridge/sidecar/process/state_files"
require "sidekiq_bridge/sidecar/sidekiq/hooks"

# Its hooks belong to the machine: a server on a port. A gem's name decides.
module SidekiqAlive
  def self.hook(event) = -> { Trace.add([:alive, event]) }
end

RSpec.describe SidekiqBridge::Sidecar::Hooks do
  let(:adapter) { SidekiqBridge::Sidecar::VersionAdapter.current }

  around do |example|
    before = adapter.events.transform_values(&:dup)
    adapter.events.each_value(&:clear)
    example.run
  ensure
    adapter.events.each { |event, blocks| blocks.replace(before[event] || []) }
  end

  def on(event, &block) = adapter.events.fetch(event) << block

  def hooks(alone: false) = described_class.new(adapter, alone: alone).tap { |made| (@made ||= []) << made }

  after { (@made || []).each(&:resign) }

  it "beats in the first process only" do
    on(:heartbeat) { Trace.add(:heartbeat) }
    on(:beat) { Trace.add(:beat) } if SIDEKIQ >= Gem::Version.new("7")
    stub_const("#{described_class}::BEAT_SECONDS", 0.02)
    hooks.start(first: false)
    sleep 0.05
    expect(Trace.entries).to eq([])

    first = hooks
    first.start(first: true)
    wait_until { Trace.include?(:heartbeat) && (SIDEKIQ < Gem::Version.new("7") || Trace.entries.count(:beat) > 3) }
    first.fire(:exit)
    expect(Trace.entries.count(:heartbeat)).to eq(1)
    sleep 0.05
    expect { sleep 0.1 }.not_to(change { Trace.entries.size })
  end

  it "runs the app's hooks in each process, and those of a machine in the first one" do
    %i[startup quiet shutdown].each do |event|
      on(event) { Trace.add([:own, event]) }
      adapter.events.fetch(event) << SidekiqAlive.hook(event)
    end
    other = hooks
    other.start(first: false)
    %i[quiet shutdown].each { |event| other.fire(event) }
    expect(Trace.entries).to eq([[:own, :startup], [:own, :quiet], [:own, :shutdown]])
  end

  it "hands the hooks of a machine over: the one process ends them, and the next begins them" do
    2.times { |number| adapter.events.fetch(%i[startup shutdown][number]) << SidekiqAlive.hook(%i[startup shutdown][number]) }
    hooks.tap { |one| one.start(first: true) }.resign
    expect(Trace.entries).to eq([[:alive, :startup], [:alive, :shutdown]])

    Trace.clear
    adapter.events.fetch(:startup) << SidekiqAlive.hook(:startup)
    heir = hooks
    heir.start(first: false)
    expect(Trace.entries).to eq([])
    heir.lead
    expect(Trace.entries).to eq([[:alive, :startup]])
  end

  it "keeps a hook whose address another process has until this process is the first" do
    server = TCPServer.new("127.0.0.1", 0)
    port = server.addr[1]
    mine = nil
    on(:startup) { mine = TCPServer.new("127.0.0.1", port) }
    on(:startup) { Trace.add(:startup) }
    beside = hooks
    beside.start(first: false)
    expect([mine, Trace.entries]).to eq([nil, [:startup]])
    server.close
    beside.lead
    expect(mine).to be_a(TCPServer)
    mine.close
  end

  it "lets any other error of a hook at :startup end the start" do
    on(:startup) { raise "no database" }
    expect { hooks.start(first: false) }.to raise_error("no database")
    on(:startup) { raise "no database" }
    expect { hooks(alone: true).start(first: true) }.to raise_error("no database")
  end

  it "runs all hooks in their order in a sidecar of one process" do
    on(:startup) { Trace.add(1) }
    adapter.events.fetch(:startup) << SidekiqAlive.hook(:startup)
    on(:startup) { Trace.add(3) }
    hooks(alone: true).start(first: true)
    expect(Trace.entries).to eq([1, [:alive, :startup], 3])
  end
end

RSpec.describe SidekiqBridge::Sidecar::FirstProcess do
  let(:directory) { Dir.mktmpdir }
  let(:files) { SidekiqBridge::Sidecar::StateFiles.new(directory) }

  after { FileUtils.remove_entry(directory) }

  def process(first:)
    told = []
    [described_class.new(files, first: first, lead: -> { told << :lead }, resign: -> { told << [:resign, files.first] }), told]
  end

  it "leads when it is appointed, once" do
    one, told = process(first: false)
    one.look
    files.first = Process.pid
    2.times { one.look }
    expect(told).to eq([:lead])
  end

  it "frees what it has before it hands over" do
    files.first = files.next_first = Process.pid
    one, told = process(first: true)
    one.look
    files.next_first = 4711
    2.times { one.look }
    expect([told, files.first]).to eq([[[:resign, Process.pid]], 4711])
  end
end
