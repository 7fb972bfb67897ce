# frozen_string_literal: true

require_relative "spec_helper"

RSpec.describe "A job, run as Sidekiq's Processor runs it" do
  it "performs with the arguments and the jid" do
    expect(outcome_of("args" => [1, 1.0, "é", nil, {"a" => [2**70]}])["status"]).to eq("done")
    expect(Trace.entries).to eq([["0123456789abcdef01234567", 1, 1.0, "é", nil, {"a" => [2**70]}]])
  end

  it "takes missing, null and scalar arguments as Sidekiq does" do
    [nil, 7, {"a" => 1}].each { |args| expect(outcome_of("args" => args)["status"]).to eq("done") }
    expect(outcome_of('{"class":"TracingJob","args":null}')["status"]).to eq("done")
    expect(Trace.entries.map { |entry| entry.drop(1) }).to eq([[], [7], [["a", 1]], []])
  end

  it "is done when a middleware does not yield" do
    expect(outcome_of("skip" => true)["status"]).to eq("done")
    expect(Trace.entries).to be_empty
  end

  it "performs with the arguments that middleware left" do
    outcome_of("args" => [1], "change" => [2])
    expect(Trace.entries.last.last).to eq(2)
  end

  it "shows middleware the trace context" do
    outcome_of("keep" => true, trace: {"traceparent" => "00-a-b-01"})
    expect(Trace.entries).to include({"traceparent" => "00-a-b-01"})
  end

  it "can push jobs of its own" do
    RedisServer.flush
    expect(outcome_of("class" => "PushingJob")["status"]).to eq("done")
    expect(RedisServer.keys).to eq(%w[queue:default queues])
  end

  %w[exit abort exception memory stack throw interrupt signal].each do |how|
    it "fails, and no more than that, by way of #{how}" do
      expect(outcome_of("class" => "ExitingJob", "args" => [how])).to include("status" => "failed", "next" => include("place" => "retry"))
    end
  end

  it "is given back when Sidekiq::Shutdown is at the root of its error" do
    expect(outcome_of("class" => "ShutdownCausedJob")["status"]).to eq("shutdown")
  end

  it "says so when the sidecar did not ask the job to stop" do
    expect(outcome_of("class" => "ShutdownCausedJob")).to include("asked" => false)
  end

  describe "which classes are performed" do
    it "refuses a class that is not a job, before it is instantiated" do
      expect(outcome_of("class" => "NotAJob")).to include("status" => "refused", "message" => "NotAJob is not a Sidekiq job class")
      expect(Trace.entries).to be_empty
    end

    it "refuses modules, core classes and constants that are not classes" do
      %w[Kernel File Object ENV RUBY_VERSION Sidekiq::VERSION].each { |name| expect(outcome_of("class" => name)["status"]).to eq("refused") }
    end

    it "takes a name that is not a constant for an unknown class" do
      ["tracingJob", "TracingJob;exit", "TracingJob\n", "A::", "", "#{"A" * 300}::b"].each do |name|
        expect(outcome_of("class" => name)).to include("status" => "failed", "error" => include("class" => "NameError"))
      end
    end

    it "fails by Sidekiq's rule when the class is not a text" do
      [nil, 5, ["TracingJob"], {"a" => 1}].each { |name| expect(outcome_of("class" => name)["status"]).to eq("failed") }
    end

    # Object::<wrapper> passed the check of names, and led to `new` on any class.
    it "refuses a detour to a class" do
      ["Object::TracingJob", "::Object::TracingJob", "Object::Object::TracingJob", "SidekiqBridge::Object::TracingJob"].each do |name|
        expect(outcome_of("class" => name)["status"]).to eq("refused").or(eq("failed"))
      end
      expect(outcome_of("class" => "Object::TracingJob")).to include("message" => include("Object::TracingJob is a detour to TracingJob"))
      expect(Trace.entries.map(&:first)).to all(eq(:error))
      expect(outcome_of("class" => "::TracingJob")["status"]).to eq("done")
    end

    it "performs a class under the old name that an app keeps for it" do
      stub_const("OldTracingJob", TracingJob)
      stub_const("OldNotAJob", NotAJob)
      expect(outcome_of("class" => "OldTracingJob")["status"]).to eq("done")
      expect(outcome_of("class" => "OldNotAJob")["status"]).to eq("refused")
    end

    it "goes by Ruby's name of a class, not by what the class says" do
      liar = Class.new(TracingJob) { def self.name = "Object::StringIO" }
      stub_const("LyingJob", liar)
      expect(outcome_of("class" => "LyingJob")["status"]).to eq("done")
    end

    it "finds no constant by way of another one, if its Sidekiq would not" do
      expect(outcome_of("class" => "NotAJob::TracingJob")["status"]).to eq("failed")
    end
  end

  describe "what is malformed" do
    it "is what Sidekiq's parser refuses, nesting included" do
      ['{"class":', "", "{\"a\":NaN}", "#{"[" * 102}#{"]" * 102}"].each do |text|
        expect { Sidekiq.load_json(text) }.to raise_error(StandardError)
        expect { job(text) }.to raise_error(SidekiqBridge::Sidecar::RequestError, /not JSON/)
      end
    end

    it "is JSON that is not an object, too" do
      %w[123 [] null "text"].each { |text| expect { job(text) }.to raise_error(SidekiqBridge::Sidecar::RequestError, /not an object/) }
    end
  end

  describe "the allow-list" do
    let(:guard) { SidekiqBridge::Sidecar::ClassGuard.new(allowed: %w[TracingJob SomeActiveJob]) }

    it "names the only classes" do
      expect(guard.refusal_by_name(job(payload))).to be_nil
      expect(guard.refusal_by_name(job(payload("class" => "FailingJob")))).to include("not on the list")
    end

    it "goes by what a wrapper would run, not by its label" do
      wrapper = {"class" => "Sidekiq::ActiveJob::Wrapper", "wrapped" => "TracingJob", "args" => [{"job_class" => "Evil"}]}
      expect(guard.refusal_by_name(job(payload(wrapper)))).to include("Evil")
    end
  end

  describe "iterable jobs", sidekiq: ">= 7.3" do
    before { RedisServer.flush }

    it "stop at a checkpoint with the payload that Sidekiq would push, and push nothing" do
      executor = new_executor
      delivery = deliver(executor, "class" => "CountingJob", "retry_count" => 2)
      wait_until("the first iterations") { Trace.entries.size > 2 }
      executor.interrupt(delivery.id)
      expect(delivery.wait(5)).to have_attributes(status: "interrupted")
      pushed = JSON.parse(JSON.parse(delivery.outcome_json)["payload"])
      expect(pushed).to include("jid" => "0123456789abcdef01234567", "retry_count" => 2, "created_at" => 1_700_000_000.25)
      expect(pushed["enqueued_at"]).to be_a((SIDEKIQ >= Gem::Version.new("8")) ? Integer : Float)
      expect(pushed["enqueued_at"]).to be > 1_700_000_001
      expect(RedisServer.keys).to eq(["it-0123456789abcdef01234567"])
    end
  end
end
