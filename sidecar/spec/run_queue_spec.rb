# frozen_string_literal: true

require_relative "spec_helper"
require "timeout"

RSpec.describe SidekiqBridge::Sidecar::RunQueue do
  let(:queue) { described_class.new }

  # An example that waits for a thread that was never woken fails.
  around { |example| Timeout.timeout(60, RuntimeError, "no thread came in 60 s") { example.run } }

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

  describe "with a stream" do
    # A stream whose #read waits for its next batch of runs.
    let(:stream) do
      Class.new do
        def initialize(queue)
          @queue = queue
          @batches = Queue.new
        end

        def bring(*runs) = @batches << runs

        def end_it = @batches.close

        def read = @batches.pop&.each { |run| @queue << run }
      end.new(queue)
    end

    def worker(done, &work)
      Thread.new do
        item = queue.pop
        while item
          next item = (queue.read_on(item) if item.read) if item.equal?(stream)
          work&.call(item)
          done << [item, Thread.current]
          item = queue.pop
        end
        queue.leave
      end
    end

    def reader = queue.instance_variable_get(:@readers).keys.first

    it "has the thread that reads a run perform it, while another thread reads on" do
      done = Queue.new
      go = Queue.new
      Array.new(2) { worker(done) { |run| go.pop if run == :waits } }
      wait_until { idle == 2 }
      queue.read(stream)
      wait_until { reader }
      first = reader
      stream.bring(:waits)
      wait_until("the other thread to read") { reader && reader != first }
      stream.bring(:quick)
      expect(done.pop.first).to eq(:quick)
      go.close
      expect(done.pop).to eq([:waits, first])
    end

    it "has a thread for each run of a batch" do
      all_there = Queue.new
      go = Queue.new
      Array.new(6) { worker(Queue.new) { |run| (all_there << run) && go.pop } }
      wait_until { idle == 6 }
      queue.read(stream)
      stream.bring(1, 2, 3, 4, 5)
      expect(Array.new(5) { all_there.pop }.sort).to eq([1, 2, 3, 4, 5])
      wait_until("the last thread to read on") { reader }
      go.close
    end

    describe "after many short runs" do
      let(:done) { Queue.new }
      let(:go) { Queue.new }
      let(:started) { Queue.new }
      let(:sent) { Queue.new }
      let(:writer) { Struct.new(:sent) { def send_held = sent << :held }.new(sent) }

      def work(run)
        started << queue.hold(writer) if run == :holds
        (started << run) && go.pop if run == :waits
      end

      before do
        Array.new(3) { worker(done) { |run| work(run) } }
        wait_until { idle == 3 }
        queue.read(stream)
        short_runs until queue.send(:short_jobs?)
      end

      after { go.close }

      def short_runs
        stream.bring(*1..10)
        10.times { done.pop }
      end

      def calls
        count = 0
        allow(queue).to receive(:wake_one).and_wrap_original { |original| (count += 1) && original.call }
        yield
        count
      end

      it "calls no thread for most of the next ones" do
        expect(calls { 200.times { short_runs } }).to be < 1000
      end

      it "has another thread run what waits behind a run that takes its time" do
        stream.bring(:waits, :quick)
        expect(done.pop.first).to eq(:quick)
        expect(started.pop).to eq(:waits)
      end

      it "has another thread read on while the last run takes its time" do
        stream.bring(:waits)
        started.pop
        stream.bring(:quick)
        expect(done.pop.first).to eq(:quick)
      end

      it "wakes a thread for each run of a batch again once one has taken its time" do
        stream.bring(:waits, :waits)
        2.times { started.pop }
        expect(queue.send(:short_jobs?)).to be(false)
      end

      it "sends replies that were held, though the next run takes its time" do
        stream.bring(:holds, :waits)
        expect(started.pop).to be(true)
        expect(sent.pop).to eq(:held)
      end

      # A request that supersedes a delivery answers it on a thread of Puma, which never comes back for the reply.
      it "holds no reply of a thread that runs no job" do
        expect(queue.hold(writer)).to be(false)
      end
    end

    it "sends held replies before the next run where no thread is idle" do
      alone = described_class.new(1)
      described_class::SHORT_JOBS.succ.times do
        alone << :short
        alone.pop
      end
      sent = []
      writer = Struct.new(:sent) { def send_held = sent << :held }.new(sent)
      expect(alone.hold(writer)).to be(true)
      alone << :waits
      expect(alone.pop).to eq(:waits)
      expect(sent).to eq([:held])
    end

    it "holds no replies while runs may take their time" do
      expect(queue.hold(Object.new)).to be(false)
    end

    it "runs the app's code on no more threads than its limit" do
      limited = described_class.new(1)
      limited << :first
      limited << :second
      expect(limited.pop).to eq(:first)
      second = Thread.new { limited.pop }
      wait_until { limited.instance_variable_get(:@idle).size == 1 }
      expect(limited.pop).to eq(:second)
      limited.close
      expect(second.value).to be_nil
    end

    it "goes on after the end of a stream" do
      done = Queue.new
      threads = Array.new(2) { worker(done) }
      queue.read(stream)
      stream.end_it
      wait_until { threads.one?(&:alive?) }
      queue << :other
      expect(done.pop.first).to eq(:other)
    end
  end
end
