# frozen_string_literal: true

require_relative "spec_helper"
require "sidekiq_bridge/sidecar/process/signals"

# In processes of their own: traps are the process's, and the suite has its own.
RSpec.describe SidekiqBridge::Sidecar::Signals do
  def in_process(&block)
    reader, writer = IO.pipe
    pid = fork do
      reader.close
      writer.write(block.call.to_s)
      writer.close
      exit!(0)
    end
    writer.close
    Process.wait(pid)
    reader.read
  end

  it "gives signals in their order" do
    expect(in_process do
      signals = described_class.new(%w[TERM TTIN])
      Process.kill("TTIN", Process.pid)
      first = signals.next(5)
      Process.kill("TERM", Process.pid)
      [first, signals.next(5)].join(" ")
    end).to eq("TTIN TERM")
  end

  # It went to the parent's pipe: one TERM to a worker that had just been forked stopped the whole sidecar.
  it "keeps a signal that a child gets before its own traps for the child" do
    expect(in_process do
      parents = described_class.new(%w[TERM CHLD], forks: true)
      reader, writer = IO.pipe
      child = fork do
        Process.kill("TERM", Process.pid) # just after the fork
        sleep(0.05)
        writer.write(described_class.new.next(5).inspect)
        writer.close
        exit!(0)
      end
      writer.close
      heard = reader.read
      Process.wait(child)
      [heard, parents.next(0.2), parents.next(0.1).inspect].join(" ")
    end).to eq('"TERM" CHLD nil')
  end

  # The child of a job kept such a signal for a queue that it never made: TERM did nothing to it.
  it "gives a child that makes no queue its signals as if there were no trap" do
    expect(in_process do
      parents = described_class.new(%w[TERM])
      child = fork { sleep }
      sleep(0.05)
      Process.kill("TERM", child)
      [Process.wait2(child).last.termsig, parents.next(0.1).inspect].join(" ")
    end).to eq("15 nil")
  end
end
