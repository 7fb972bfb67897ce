# frozen_string_literal: true

require_relative "spec_helper"

RSpec.describe SidekiqBridge::Sidecar::RunQueue do
  let(:queue) { described_class.new }

  def idle = queue.instance_variable_get(:@idle).size

  def sleepers(count, &work)
    Array.new(count) { Thread.new { work.call(queue.pop) } }.tap { wait_until("#{count} threads to sleep") { idle == count } }
  end

  it "has a thread for each of several runs that wait for each other" do
    all_there = Queue.new
    go = Queue.new
    threads = sleepers(5) { |run| (all_there << run) && go.pop }
    (1..5).each { |run| queue << run }
    expect(Array.new(5) { all_there.pop }.sort).to eq([1, 2, 3, 4, 5])
    go.close
    threads.each(&:join)
  end

  it "goes on after a thread was killed in its sleep" do
    first, * = sleepers(2) { |run| run }
    first.kill
    wait_until { idle == 1 }
    done = Queue.new
    thread = Thread.new { done << queue.pop }
    wait_until { idle == 2 }
    queue << 1
    queue << 2
    expect(done.pop).to be_between(1, 2)
    thread.join
  end

  it "lets sleepers go when it is closed, but not before it is empty" do
    threads = sleepers(2) { |run| run }
    queue.close
    expect(threads.map(&:value)).to eq([nil, nil])
    queue << 1
    expect([queue.pop, queue.pop]).to eq([1, nil])
  end
end
