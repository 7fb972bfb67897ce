# frozen_string_literal: true

require_relative "spec_helper"

RSpec.describe SidekiqBridge::Sidecar::Outbox do
  it "writes a reply that waits for others, also after its thread was called in vain" do
    stub_const("SidekiqBridge::Sidecar::Outbox::TOGETHER_SECONDS", 3600)
    ours, theirs = UNIXSocket.pair
    outbox = described_class.new(SidekiqBridge::Sidecar::StreamSocket.for(ours))
    thread = outbox.start && outbox.instance_variable_get(:@thread)
    wait_until("the thread to sleep") { thread.status == "sleep" }
    20.times do
      outbox.add("a", more: true)
      outbox.add("b") # written by this thread, mostly before the other one is awake
      expect(theirs.readpartial(1) + theirs.readpartial(1)).to eq("ab")
      wait_until("the thread to sleep") { thread.status == "sleep" }
      outbox.add("c", more: true) # and nothing follows
      expect(theirs.wait_readable(10) && theirs.readpartial(1)).to eq("c")
      wait_until("the thread to sleep") { thread.status == "sleep" }
    end
  ensure
    outbox&.close
    [ours, theirs].compact.each(&:close)
  end
end
