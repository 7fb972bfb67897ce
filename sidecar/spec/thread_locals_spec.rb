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

  class LeavingOneThing
    include JobModule

    class << self
      attr_accessor :leave, :thread
    end

    def perform
      self.class.thread = Thread.current.object_id
      self.class.leave.call
      raise ArgumentError
    end
  end
  LeavingNothing = Class.new(LeavingOneThing)

  def trace_of(executor, name, &leave)
    job = Object.const_get(name)
    job.leave = leave
    deliver(executor, "class" => name).wait(5)
    job.thread
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
    trace_of(executor, "LeavingNothing") { nil }
    before = slots.call
    50.times { expect(run(executor, "failing")[1].first(2)).to eq([nil, nil]) }
    wait_until("the ended threads to be gone") { slots.call <= before }
  end

  # A new thread costs as much as the failure itself, so a thread that shows no trace of the job goes on. The first such
  # check did not look at the fiber: under Rails' `isolation_level = :fiber` the tenant of a failed job met the next job.
  it "are not there if the job left none: its thread goes on" do
    threads = Array.new(3) { trace_of(executor, "LeavingNothing") { nil } }
    expect(threads.uniq.size).to eq(1)
  end

  IdleScheduler = Struct.new(:nothing) do
    %i[block unblock kernel_sleep io_wait fiber close run].each { |name| define_method(name) { |*| nil } }
  end
  LOCK = Mutex.new
  MONITOR = Monitor.new

  {
    "a fiber-local" => -> { Thread.current[:tenant] = "acme" },
    "a thread variable" => -> { Thread.current.thread_variable_set(:tenant, "acme") },
    "an instance variable of the thread, as Active Support" => -> { Thread.current.instance_variable_set(:@tenant, "acme") },
    "an instance variable of the fiber, as Active Support with isolation by fibers" =>
      -> { Fiber.current.instance_variable_set(:@tenant, "acme") },
    "a scheduler of fibers" => -> { Fiber.set_scheduler(IdleScheduler.new) },
    "another priority" => -> { Thread.current.priority -= 1 },
    "another name" => -> { Thread.current.name = "acme" },
    "a lock that it took by hand" => -> { LOCK.lock },
    "a monitor that it entered by hand" => -> { MONITOR.enter }
  }.each do |what, leave|
    it "cost the thread its place: #{what}" do
      before, after = Array.new(2) { trace_of(executor, "LeavingOneThing", &leave) }
      expect(after).not_to eq(before)
    end
  end

  it "cost the thread its place: a field that an error handler has put into Sidekiq's log context" do
    handlers = SidekiqBridge::Sidecar::VersionAdapter.current.send(:error_handlers)
    handlers << (handler = ->(*) { Thread.current[:sidekiq_context] = { tenant: "acme" } })
    before, after = Array.new(2) { trace_of(executor, "LeavingNothing") { nil } }
    expect(after).not_to eq(before)
  ensure
    handlers.delete(handler)
  end

  it "are not made by a lock around a block" do
    threads = Array.new(2) { trace_of(executor, "LeavingNothing") { LOCK.synchronize { MONITOR.synchronize { nil } } } }
    expect(threads.uniq.size).to eq(1)
  end

  it "stay in a thread whose job was done, as in Sidekiq" do
    _, _, first = run(executor, "done")
    how, seen, second = run(executor, "done again")
    expect([how, seen.first, second]).to eq(["done again", "left by done", first])
  end
end
