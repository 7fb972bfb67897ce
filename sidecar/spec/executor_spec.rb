# frozen_string_literal: true

require_relative "spec_helper"

RSpec.describe SidekiqBridge::Sidecar::Executor do
  let(:executor) { new_executor(slots: 2) }

  after { (@executors || []).each { |each| Trace.release && each.stop(5) } }

  def refusal(code)
    raise_error(SidekiqBridge::Sidecar::RequestError) { |error| expect(error.code).to eq(code) }
  end

  def waiting_job(**options)
    count = Trace.entries.count(:started)
    deliver(executor, "class" => "WaitingJob", **(options.delete(:payload) || {}), **options).tap do
      wait_until("the job to start") { Trace.entries.count(:started) > count }
    end
  end

  def status_of(delivery) = delivery.wait(5)&.status

  it "tells the block of the outcome, once" do
    told = Queue.new
    deliver(executor) { |outcome| told << outcome.status }
    expect(told.pop).to eq("done")
    expect(told).to be_empty
  end

  it "refuses what it has no slot for, and takes it as soon as one is free" do
    first = waiting_job(payload: {"jid" => "1"})
    waiting_job(payload: {"jid" => "2"})
    expect { deliver(executor, "jid" => "3") }.to refusal("no_slot")
    Trace.release
    status_of(first)
    expect(status_of(deliver(executor, "jid" => "3"))).to eq("done")
  end

  # Its worker has lost the job, and reported a reply without sense.
  it "tells of the outcome of a run that another worker takes over at its very end" do
    told = Queue.new
    deliver(executor, "jid" => "1", id: "h:1:a/1") do |outcome, delivery|
      deliver(executor, "jid" => "1", id: "h:2:b/1", claimed_at_ms: 2, recovered: 1)
      told << [delivery.superseded?, JSON.parse(SidekiqBridge::Sidecar::Replies.settled(delivery, outcome).body)["status"]]
    end
    expect(told.pop).to eq([true, "done"])
  end

  it "has its slot free when it tells of the outcome" do
    one = new_executor(slots: 1)
    told = Queue.new
    200.times do |index|
      deliver(one, "jid" => index.to_s) { |outcome| told << outcome.status }
      told.pop
    end
    expect(Trace.entries.size).to eq(200)
  end

  describe "a delivery that is known" do
    it "is joined while it runs" do
      first = waiting_job(id: "h:1:a/7")
      expect(deliver(executor, "class" => "WaitingJob", id: "h:1:a/7")).to equal(first)
      expect(Trace.entries).to eq([:started])
    end

    it "is answered from its record when it has finished" do
      first = deliver(executor, id: "h:1:a/7")
      first.wait(5)
      again = deliver(executor, id: "h:1:a/7")
      expect([again.outcome_json, Trace.entries.size]).to eq([first.outcome_json, 1])
    end
  end

  describe "another delivery of the same job" do
    it "is superseded by a newer one of the same worker" do
      status_of(deliver(executor, id: "h:1:a/10"))
      expect { deliver(executor, id: "h:1:a/9") }.to refusal("superseded")
    end

    it "is superseded by a delivery of the job that was orphaned since" do
      status_of(deliver(executor, id: "h:1:b/1", claimed_at_ms: 5, recovered: 1))
      expect { deliver(executor, id: "h:1:a/9", claimed_at_ms: 4) }.to refusal("superseded")
    end

    # Deliveries were ordered by Redis' clock alone. It was set back by 40 s, and the jobs of a worker that died went to and fro
    # between Redis and the other workers, 200 times a second, until the clock had caught up.
    describe "when the clock of Redis was set back" do
      it "takes over what still runs" do
        waiting_job(id: "h:1:a/1", claimed_at_ms: 50_000)
        newer = deliver(executor, "class" => "WaitingJob", id: "h:1:b/1", claimed_at_ms: 10_000, recovered: 1)
        Trace.release
        expect(status_of(newer)).to eq("done")
        expect(Trace.entries.count(:started)).to eq(1)
      end

      it "is answered from the record of one that has ended" do
        status_of(deliver(executor, id: "h:1:a/1", claimed_at_ms: 50_000))
        expect(status_of(deliver(executor, id: "h:1:b/1", claimed_at_ms: 10_000, recovered: 1))).to eq("done")
        expect(Trace.entries.size).to eq(1)
      end

      it "runs as the next attempt" do
        status_of(deliver(executor, id: "h:1:a/1", claimed_at_ms: 50_000))
        expect(status_of(deliver(executor, "retry_count" => 0, id: "h:1:b/1", claimed_at_ms: 10_000))).to eq("done")
        expect(Trace.entries.size).to eq(2)
      end

      it "runs where the older one was given back" do
        older = waiting_job(id: "h:1:a/1", claimed_at_ms: 50_000)
        executor.interrupt(older.id)
        status_of(older)
        Trace.release
        expect(status_of(deliver(executor, "class" => "WaitingJob", id: "h:1:b/1", claimed_at_ms: 10_000))).to eq("done")
      end
    end

    it "must wait while an older one runs" do
      waiting_job(claimed_at_ms: 1)
      expect { deliver(executor, "class" => "WaitingJob", claimed_at_ms: 2) }.to refusal("running")
      expect { deliver(executor, "class" => "WaitingJob", "x" => 1, claimed_at_ms: 2, recovered: 1) }.to refusal("running")
    end

    it "is only joined, never started, for who looks for it" do
      look = ->(jid) { deliver(executor, "class" => "WaitingJob", "jid" => jid, claimed_at_ms: 2, recovered: 1, only_if_known: true) }
      expect { look.call("1") }.to refusal("unknown")
      waiting_job(claimed_at_ms: 1, payload: {"jid" => "2"})
      Trace.release
      expect(status_of(look.call("2"))).to eq("done")
      expect(Trace.entries.count(:started)).to eq(1)
    end

    # A worker was killed while its job was on the way: another looked for it, did not find it, started it elsewhere, and then
    # the first one began here as well.
    it "is not begun any more where a newer one was looked for and not found" do
      newer = {claimed_at_ms: 2, recovered: 1}
      expect { deliver(executor, **newer, only_if_known: true) }.to refusal("unknown")
      expect { deliver(executor, id: "h:1:dead/1", claimed_at_ms: 1) }.to refusal("superseded")
      expect(status_of(deliver(executor, **newer))).to eq("done")
    end

    it "runs where the older one was only given back" do
      older = waiting_job(claimed_at_ms: 1)
      executor.interrupt(older.id)
      expect(status_of(older)).to eq("shutdown")
      Trace.release
      expect(status_of(deliver(executor, "class" => "WaitingJob", claimed_at_ms: 2, recovered: 1))).to eq("done")
    end

    it "takes over a running one after a recovery, and the older is told so while it waits" do
      older = waiting_job(claimed_at_ms: 1)
      waiter = Thread.new { older.wait(5) }
      waiter.report_on_exception = false
      newer = deliver(executor, "class" => "WaitingJob", claimed_at_ms: 2, recovered: 1)
      expect { waiter.value }.to refusal("superseded")
      expect { executor.find(older.id) }.to refusal("superseded")
      Trace.release
      expect(status_of(newer)).to eq("done")
      expect(JSON.parse(newer.outcome_json)["delivery"]).to eq(newer.id)
      expect(Trace.entries.count(:started)).to eq(1)
    end

    it "is answered from the record of a finished one after a recovery" do
      status_of(deliver(executor, claimed_at_ms: 1))
      expect(status_of(deliver(executor, claimed_at_ms: 2, recovered: 1))).to eq("done")
      expect(Trace.entries.size).to eq(1)
    end

    it "runs when the older one has finished: it is a retry" do
      first = deliver(executor, claimed_at_ms: 1)
      status_of(first)
      expect(status_of(deliver(executor, claimed_at_ms: 2))).to eq("done")
      expect(Trace.entries.size).to eq(2)
      expect { executor.find(first.id) }.to refusal("superseded")
    end

    it "does not know jobs without a jid from each other" do
      ["", nil].each do |none|
        waiting_job(payload: {"jid" => none}, claimed_at_ms: 2)
        expect(status_of(deliver(executor, "jid" => none, claimed_at_ms: 1))).to eq("done")
        Trace.release
        wait_until("both to end") { executor.busy.zero? }
        Trace.clear
      end
    end

    # 40 jobs with one jid ran one after the other, and jobs of other jids waited behind them.
    it "does not wait for another job that has the same jid" do
      first = waiting_job(payload: {"args" => [1]})
      expect(status_of(deliver(executor, "args" => [2]))).to eq("done")
      pushed_again = waiting_job(payload: {"args" => [1], "created_at" => 5})
      Trace.release
      expect([first, pushed_again].map { |delivery| status_of(delivery) }).to eq(%w[done done])
    end

    it "waits for another attempt of its own" do
      waiting_job
      expect { deliver(executor, "class" => "WaitingJob", "retry_count" => 0) }.to refusal("running")
    end
  end

  describe "slots" do
    # The next thread of the slot ran the hooks of the finished job, as if it had failed.
    it "end no job again when their thread is killed between two jobs" do
      again = Queue.new
      runner = -> { SidekiqBridge::Sidecar::VersionAdapter.current.new_runner(SidekiqBridge::Sidecar::ClassGuard.new).tap { |each| allow(each).to receive(:call_killed) { again << each } } }
      executor = new_executor(slots: 1, new_runner: runner)
      idle = executor.instance_variable_get(:@slots).instance_variable_get(:@queue).instance_variable_get(:@idle)
      expect(status_of(deliver(executor, "jid" => "1"))).to eq("done")
      thread = wait_until("the thread to sleep") { idle.first && Thread.list.find { |each| each[:bridge_condition].equal?(idle.first) } }
      thread.kill.join
      expect(status_of(deliver(executor, "jid" => "2"))).to eq("done")
      expect(again).to be_empty
    end

    it "survive jobs that kill their thread, which fail by the usual rules" do
      20.times do |index|
        delivery = deliver(executor, "class" => "ExitingJob", "args" => ["kill"], "jid" => index.to_s)
        expect(status_of(delivery)).to eq("failed")
        expect(JSON.parse(delivery.outcome_json)).to include("error" => include("class" => "Bridge::ThreadKilled"), "next" => include("place" => "retry"))
      end
      expect(status_of(deliver(executor))).to eq("done")
      expect(executor.busy).to eq(0)
    end

    it "survive every other way out" do
      %w[exit exception memory throw signal].each { |how| status_of(deliver(executor, "class" => "ExitingJob", "args" => [how], "jid" => how)) }
      both = Array.new(2) { |index| waiting_job(payload: {"jid" => index.to_s}) }
      Trace.release
      expect(both.map { |delivery| status_of(delivery) }).to eq(%w[done done])
    end
  end

  describe "cancelling" do
    it "ends a job whose deadline has passed as a failure by the rules" do
      delivery = waiting_job
      executor.cancel(delivery.id, SidekiqBridge::DeadlineExceeded.new("60 s are over"))
      expect(status_of(delivery)).to eq("failed")
      expect(JSON.parse(delivery.outcome_json)).to include(
        "error" => {"class" => "Bridge::DeadlineExceeded", "message" => "60 s are over"}, "next" => include("place" => "retry")
      )
    end

    it "ends a revoked job for good" do
      delivery = waiting_job
      executor.cancel(delivery.id, SidekiqBridge::Cancelled.new("revoked"))
      status_of(delivery)
      expect(JSON.parse(delivery.outcome_json)).to include("status" => "failed", "error" => include("class" => "Bridge::Cancelled"), "next" => {"place" => "none"})
    end

    it "never hits the executor or the next job, however late it comes" do
      one = new_executor(slots: 1)
      300.times do |index|
        delivery = deliver(one, "jid" => index.to_s)
        one.cancel(delivery.id, SidekiqBridge::DeadlineExceeded.new("late"))
        expect(status_of(delivery)).to eq("done").or eq("failed")
        expect(status_of(deliver(one, "jid" => "next #{index}"))).to eq("done")
      end
    end

    it "does not know what it has no record of" do
      expect { executor.cancel("h:1:a/99", RuntimeError.new) }.to refusal("unknown")
    end
  end

  it "ends a job that cannot stop at a checkpoint with Sidekiq::Shutdown when it is interrupted" do
    delivery = waiting_job
    executor.interrupt(delivery.id)
    expect(status_of(delivery)).to eq("shutdown")
    expect(Trace.entries).to eq([:started, "Sidekiq::Shutdown"])
    expect(delivery.outcome_json).not_to include("asked")
  end

  describe "going down" do
    it "starts nothing new, and lets what runs go on" do
      delivery = waiting_job
      executor.drain
      expect { deliver(executor, "jid" => "new") }.to refusal("draining")
      expect(executor.find(delivery.id)).to equal(delivery)
      Trace.release
      expect(status_of(delivery)).to eq("done")
    end

    it "ends with Sidekiq::Shutdown what is not done in time" do
      delivery = waiting_job
      executor.stop(0.05)
      expect(status_of(delivery)).to eq("shutdown")
      expect(executor).not_to be_abandoned
    end

    it "gives up what holds out even then, and says so" do
      stub_const("SidekiqBridge::Sidecar::Executor::SHUTDOWN_GRACE_SECONDS", 0.05)
      delivery = deliver(executor, "class" => "StubbornJob")
      wait_until("the job to start") { Trace.include?(:started) }
      executor.stop(0.05)
      expect(status_of(delivery)).to eq("shutdown")
      expect(executor).to be_abandoned
    end
  end

  describe "records" do
    it "are forgotten by count, the oldest first" do
      few = new_executor(records: SidekiqBridge::Sidecar::DeliveryRecords.new(keep_count: 2, ask_seconds: 0))
      deliveries = Array.new(3) { |index| deliver(few, "jid" => index.to_s).tap { |delivery| delivery.wait(5) } }
      expect(deliveries.map { |delivery| few.find(delivery.id) }).to match([nil, deliveries[1], deliveries[2]])
    end

    # A stream was cut, and 12,500 jobs later the worker asked again for one that had been on it: it ran a second time.
    it "are kept however many follow, while a worker may ask again" do
      busy = new_executor(records: SidekiqBridge::Sidecar::DeliveryRecords.new(keep_count: 8))
      kept = Array.new(100) { |index| deliver(busy, "jid" => index.to_s).tap { |delivery| delivery.wait(5) } }
      expect(kept.map { |delivery| busy.find(delivery.id) }).to eq(kept)
    end

    it "are never more than a bound" do
      busy = new_executor(records: SidekiqBridge::Sidecar::DeliveryRecords.new(keep_count: 8, most: 50))
      kept = Array.new(100) { |index| deliver(busy, "jid" => index.to_s).tap { |delivery| delivery.wait(5) } }
      expect(kept.filter_map { |delivery| busy.find(delivery.id) }.size).to be_between(38, 52)
      expect(busy.find(kept.last.id)).to eq(kept.last)
    end

    it "stay on few pages at any rate, as the lookup of a delivery goes through all of them" do
      records = SidekiqBridge::Sidecar::DeliveryRecords.new
      ended = SidekiqBridge::Sidecar::EndedRun.new(SidekiqBridge::Sidecar::Outcome.done, 1.0)
      job = job(payload)
      [20, 1_000, 4_000].each do |rate|
        40_000.times do |index|
          delivery = SidekiqBridge::Sidecar::Delivery.new("h:#{rate}:a", index, job, 1)
          delivery.instance_variable_set(:@run, ended)
          records.finish(delivery, (rate * 10_000) + (index / rate.to_f))
        end
        expect(records.instance_variable_get(:@pages).size).to be <= 8
      end
    end

    it "are forgotten with time" do
      brief = new_executor(records: SidekiqBridge::Sidecar::DeliveryRecords.new(keep_seconds: 0))
      delivery = deliver(brief)
      delivery.wait(5)
      expect(brief.find(delivery.id)).to be_nil
    end

    it "answer for each of the last jobs, by delivery and by job, on any page" do
      few = new_executor(records: SidekiqBridge::Sidecar::DeliveryRecords.new(keep_count: 8, ask_seconds: 0))
      kept = Array.new(11) { |index| deliver(few, "jid" => index.to_s).tap { |delivery| delivery.wait(5) } }.drop(2)
      expect(kept.map { |delivery| few.find(delivery.id) }).to eq(kept)
      again = deliver(few, "jid" => kept.first.jid, claimed_at_ms: 2, recovered: 1)
      expect([again.wait(5).status, Trace.entries.size]).to eq(["done", 11])
    end

    it "keep a delivery that runs, however many jobs follow, and its end for as long as that of others" do
      few = new_executor(records: SidekiqBridge::Sidecar::DeliveryRecords.new(keep_count: 2, ask_seconds: 0))
      running = deliver(few, "class" => "WaitingJob", "jid" => "w")
      wait_until("the job to start") { Trace.include?(:started) }
      follow = ->(count) { Array.new(count) { |index| deliver(few, "jid" => index.to_s).tap { |delivery| delivery.wait(5) } } }

      gone = follow.call(10).first

      expect([few.find(gone.id), few.find(running.id)]).to match([nil, equal(running)])
      expect { deliver(few, "class" => "WaitingJob", "jid" => "w", "retry_count" => 0) }.to refusal("running")
      Trace.release
      status_of(running)
      follow.call(1)
      expect(few.find(running.id)).to equal(running)
    end

    it "know a delivery that came after later ones of its worker" do
      status_of(deliver(executor, "jid" => "later", id: "h:1:a/9"))
      first = deliver(executor, "jid" => "earlier", id: "h:1:a/3")
      expect(status_of(first)).to eq("done")
      expect(deliver(executor, "jid" => "earlier", id: "h:1:a/3")).to equal(first)
      expect(executor.find("h:1:a/4")).to be_nil
    end

    # The worker that had been there for longest was forgotten first. Its next job was taken for its newest one, and an earlier
    # job of it, for which it asked again, ran a second time.
    it "know a delivery of the oldest of many workers that came before an earlier one" do
      later = deliver(executor, "jid" => "later", id: "h:1:a/9")
      status_of(later)
      1_000.times { |index| status_of(deliver(executor, "jid" => index.to_s, id: "h:2:#{index}/1")) }
      status_of(deliver(executor, "jid" => "earlier", id: "h:1:a/3"))
      expect(executor.find(later.id)).to equal(later)
    end

    it "forget a worker with its last delivery" do
      records = SidekiqBridge::Sidecar::DeliveryRecords.new(keep_count: 2, ask_seconds: 0)
      few = new_executor(records: records)
      10.times { |index| status_of(deliver(few, "jid" => index.to_s, id: "h:2:#{index}/1")) }
      expect(records.instance_variable_get(:@newest_tokens).keys).to eq(%w[h:2:8 h:2:9])
    end

    it "keep of a run what became of it, and no payload" do
      delivery = deliver(executor)
      delivery.wait(5)
      wait_until { delivery.run.is_a?(SidekiqBridge::Sidecar::EndedRun) }
      expect(delivery.run.instance_variables).to contain_exactly(:@outcome, :@duration_ms)
    end
  end
end
