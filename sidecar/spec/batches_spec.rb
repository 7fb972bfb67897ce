# frozen_string_literal: true

require_relative "spec_helper"
require "json"
require "sidekiq-bridge/batches"

RSpec.describe SidekiqBridge::Batch do
  before { RedisServer.flush }

  def redis(*words) = Sidekiq.redis { |connection| connection.call(*words) }

  def jobs(queue = "default") = redis("LRANGE", "queue:#{queue}", 0, -1).map { |each| JSON.parse(each) }.reverse

  def classes = jobs.map { |job| job["class"] }

  # A process of Sidekiq beside the bridge runs the next job: its middleware, its retries.
  def run(queue = "default", outcome = nil)
    job = JSON.parse(redis("RPOP", "queue:#{queue}"))
    allow(SidekiqBridge::Stock).to receive(:sidecar?).and_return(false)
    SidekiqBridge::Batches::ServerMiddleware.new.call(nil, job, queue) { block_given? ? yield(job) : raise(*outcome) if block_given? || outcome }
  rescue StandardError, Sidekiq::Shutdown
    job
  end

  def batch
    described_class.new(description: "an import").on_complete("Complete").on_success("Success", 1).on_death("Death")
  end

  it "pushes the jobs of Ruby and Python at the end of the block" do
    made = batch
    made.jobs do
      expect(TracingJob.perform_async(1)).to match(/\A\h{24}\z/)
      Sidekiq::Client.push("class" => "ReportJob", "args" => [2], "queue" => "low")
      TracingJob.perform_in(100, 3)
      expect(RedisServer.keys).to eq([])
    end
    expect(jobs.map { |job| job.values_at("class", "args", "bridge_batch") }).to eq([["TracingJob", [1], made.bid]])
    expect(jobs("low").map { |job| job.values_at("class", "bridge_batch") }).to eq([["ReportJob", made.bid]])
    expect(jobs("low")[0]["enqueued_at"].class).to eq(jobs("low")[0]["created_at"].class)
    later = JSON.parse(redis("ZRANGE", "schedule", 0, -1)[0])
    expect(later).to include("args" => [3], "bridge_batch" => made.bid)
    expect(later).not_to include("at", "enqueued_at")
    expect(redis("SMEMBERS", "queues").sort).to eq(%w[default low])
    expect(made.status.to_h).to include(total: 3, pending: 3, description: "an import", failed: 0, dead: 0, children: 0, success_at: nil)
    expect(described_class.all.map(&:bid)).to eq([made.bid])
    expect(SidekiqBridge::Batches::Reader.members(made.bid).values).to eq(%w[waiting waiting waiting])
  end

  it "pushes nothing if the block raises" do
    expect { batch.jobs { TracingJob.perform_async && raise(KeyError) } }.to raise_error(KeyError)
    expect(RedisServer.keys).to eq([])
    TracingJob.perform_async
    expect(jobs[0]).not_to include("bridge_batch")
  end

  it "pushes the callbacks when a process of Sidekiq has run the jobs, once each" do
    made = batch
    made.jobs { 2.times { TracingJob.perform_async } }
    run {}
    expect(classes).to eq(%w[TracingJob])
    run {}
    expect(jobs.map { |job| job.values_at("class", "args") }).to eq([["Complete", []], ["Success", [1]]])
    expect(jobs[0]).to include("jid" => /\A\h{24}\z/, "retry" => true, "queue" => "default")
    expect(jobs[0]["created_at"].class).to eq(SIDEKIQ >= Gem::Version.new("8") ? Integer : Float)
    expect(made.status.state).to eq("done")
  end

  it "counts a failure, a death, and no run that did not end" do
    made = batch
    made.jobs { TracingJob.perform_async }
    job = run("default", [Sidekiq::Shutdown])
    expect(classes).to eq([])
    redis("RPUSH", "queue:default", JSON.generate(job))
    run("default", [ArgumentError, "failed"])
    expect(classes).to eq(%w[Complete])
    expect(made.status.to_h).to include(failed: 1, dead: 0, pending: 1)
    2.times { SidekiqBridge::Batches::DeathHandler.call(job, ArgumentError.new) }
    expect(classes).to eq(%w[Complete Death])
    redis("RPUSH", "queue:default", JSON.generate(job))
    run {}
    expect(classes).to eq(%w[Complete Death Success])
  end

  it "counts nothing in a sidecar, where the worker does" do
    made = batch
    made.jobs { TracingJob.perform_async }
    job = JSON.parse(redis("RPOP", "queue:default"))
    SidekiqBridge::Batches::ServerMiddleware.new.call(nil, job, "default") { expect(described_class.current.bid).to eq(made.bid) }
    expect(described_class.current).to be_nil
    expect(made.status.pending).to eq(1)
  end

  it "has a batch without jobs done at once, and refuses jobs from then on" do
    made = batch.jobs {}
    expect(classes).to eq(%w[Complete Success])
    expect { made.jobs { TracingJob.perform_async } }.to raise_error(SidekiqBridge::BatchRefused, /is finished since .* takes no jobs/)
    expect { described_class.find("nobatch") }.to raise_error(SidekiqBridge::BatchRefused, /Redis knows no batch nobatch/)
    expect(classes).to eq(%w[Complete Success])
  end

  it "lets a job add others to its own batch, also after the batch was complete" do
    batch.jobs { TracingJob.perform_async }
    job = run("default", [ArgumentError])
    redis("RPUSH", "queue:default", JSON.generate(job))
    run { described_class.current.jobs { TracingJob.perform_async(2) } }
    expect(classes).to eq(%w[Complete TracingJob])
    redis("LPOP", "queue:default").then { |payload| redis("RPUSH", "queue:default", payload) }
    run {}
    expect(classes).to eq(%w[Complete Success])
  end

  it "waits for child batches and their callbacks" do
    outer = batch
    inner = described_class.new.on_success("Inner")
    outer.jobs { inner.jobs { TracingJob.perform_async } }
    expect(outer.status.to_h).to include(total: 0, children: 1, pending: 0)
    run {}
    expect(classes).to eq(%w[Inner])
    expect(jobs[0]["bridge_batch"]).to eq(outer.bid)
    run {}
    expect(classes).to eq(%w[Complete Success])
  end

  it "pushes many jobs in slices" do
    batch.jobs { TracingJob.then { |job| Sidekiq::Client.push_bulk("class" => job, "args" => Array.new(1200) { |i| [i] }) } }
    expect(jobs.map { |job| job["args"][0] }).to eq((0...1200).to_a)
  end

  it "refuses a number as a callback, and a job of another Redis" do
    expect { batch.on_death(5) }.to raise_error(SidekiqBridge::BatchRefused, "on_death: 5: write a job class, or the name of one")
    pool = ConnectionPool.new { nil }
    expect { batch.jobs { Sidekiq::Client.via(pool) { TracingJob.perform_async } } }.to raise_error(SidekiqBridge::BatchRefused, /another Redis/)
  end
end
