# frozen_string_literal: true

require_relative "spec_helper"

# The next job of a slot saw the tenant and the time zone of a job that had failed. Sidekiq starts a new thread after
# each failure. Public reports: sidekiq#5089, karafka#3221.
RSpec.describe "The locals of a thread whose job failed" do
  class LeavingJob
    include JobModule

    def perform(how)
      seen = [Thread.current[:tenant], Thread.current.thread_variable_get(:tenant), Thread.current.name&.slice(/slot-\d+/)]
      Trace.add([how, seen, Thread.current.object_id])
      Thread.current[:tenant] = "left by #{how}"
      Thread.current.thread_variable_set(:tenant, "left by #{how}")
      raise ArgumentError, how if how == "failing"
      raise Sidekiq::JobRetry::Skip if how == "skipping"
    end
  end

  def run(executor, how)
    deliver(executor, "class" => "LeavingJob", "args" => [how]).wait(5)
    Trace.entries.reverse.find { |entry, *| entry == how }
  end

  let(:executor) { new_executor(slots: 1) }

  it "do not reach the next job" do
    run(executor, "failing")
    expect(run(executor, "next")).to match(["next", [nil, nil, be_nil.or(eq("slot-0"))], be])
  end

  it "do not reach it after many failures, and the slot goes on" do
    slots = -> { Thread.list.count { |thread| thread.name.to_s.start_with?("bridge.slot") && thread.alive? } }
    run(executor, "failing")
    before = slots.call
    50.times { expect(run(executor, "failing")[1].first(2)).to eq([nil, nil]) }
    wait_until("the ended threads to be gone") { slots.call <= before }
  end

  it "stay in a thread whose job was done, as in Sidekiq" do
    _, _, first = run(executor, "done")
    how, seen, second = run(executor, "done again")
    expect([how, seen.first, second]).to eq(["done again", "left by done", first])
  end
end
