# frozen_string_literal: true

require_relative "spec_helper"

RSpec.describe SidekiqBridge::Sidecar::StreamWriter do
  it "writes a reply that waits for others, also after its thread was called in vain" do
    stub_const("SidekiqBridge::Sidecar::StreamWriter::TOGETHER_SECONDS", 3600)
    ours, theirs = UNIXSocket.pair
    writer = described_class.new(SidekiqBridge::Sidecar::StreamSocket.for(ours))
    thread = writer.start && writer.instance_variable_get(:@thread)
    wait_until("the thread to sleep") { thread.status == "sleep" }
    20.times do
      writer.add("a", more: true)
      writer.add("b") # written by this thread, mostly before the other one is awake
      expect(theirs.readpartial(2) + theirs.readpartial(2)).to eq("a\nb\n")
      wait_until("the thread to sleep") { thread.status == "sleep" }
      writer.add("c", more: true) # and nothing follows
      expect(theirs.wait_readable(10) && theirs.readpartial(2)).to eq("c\n")
      wait_until("the thread to sleep") { thread.status == "sleep" }
    end
  ensure
    writer&.close
    [ours, theirs].compact.each(&:close)
  end

  it "leaves a reply that waits for others to its keeper, without calling its thread" do
    stub_const("SidekiqBridge::Sidecar::StreamWriter::TOGETHER_SECONDS", 3600)
    ours, theirs = UNIXSocket.pair
    held = SidekiqBridge::Sidecar::HeldReplies.new
    keeper = Struct.new(:held) { def hold(writer) = held.add(writer) || true }.new(held)
    writer = described_class.new(SidekiqBridge::Sidecar::StreamSocket.for(ours), nil, keeper)
    expect(writer).not_to receive(:call_thread)
    writer.add("a", more: true)
    writer.add("b", more: true)
    expect(theirs.wait_readable(0)).to be_nil
    held.send_all
    expect(theirs.readpartial(10)).to eq("a\nb\n")
    writer.add("c", more: true)
    writer.add("d")
    expect(theirs.readpartial(10)).to eq("c\nd\n")
    held.send_all # nothing is left to send
    expect(theirs.wait_readable(0)).to be_nil
  ensure
    writer&.close
    [ours, theirs].compact.each(&:close)
  end
end
