# frozen_string_literal: true

require_relative "spec_helper"
require "sidekiq_bridge/results"
require "sidekiq_bridge/sidecar/sidekiq/outcome"

RSpec.describe "Results of jobs" do
  encoded = SidekiqBridge::Results::Encoded

  {
    nil => "null", 1 => "1", 2.5 => "2.5", "é" => '"é"', [1, [nil]] => "[1,[null]]", {a: :b, 1 => true} => '{"a":"b","1":true}',
    "é".encode("ISO-8859-1") => '"é"'
  }.each do |value, json|
    it "writes #{value.inspect} as JSON" do
      expect(encoded.of(value).json).to eq(json)
    end
  end

  ring = []
  ring << ring
  {
    Object.new => "a value of Object", Float::NAN => "NaN", Float::INFINITY => "Infinity", Time.now => "a value of Time", {nil => 1} => "a key of NilClass",
    "\xFF" => "text that is not UTF-8", "\xFF".b => "text that is not UTF-8", ring => "nested too deeply", 2**20_000 => "an integer of 20001 bits"
  }.each do |value, reason|
    it "loses #{reason}, and says why" do
      found = encoded.of(value)
      expect(found.json).to be_nil
      expect(found.lost).to include(reason)
    end
  end

  it "loses what has more than 64 KiB" do
    expect(encoded.of("x" * 65_534).lost).to be_nil
    expect(encoded.of("x" * 65_535).lost).to include("65537 bytes")
    expect(encoded.of("x" * 10_000_000).lost).to include("at most 65536")
  end

  it "makes an error of the job's own class and message, or one of its name" do
    failed = SidekiqBridge::JobFailed
    expect(failed.of("ArgumentError", "no")).to be_an(ArgumentError).and have_attributes(message: "no")
    expect(failed.of("ValueError", "no")).to be_a(failed).and have_attributes(message: "no")
    expect(failed.of("ValueError", "no").class.name).to eq("ValueError")
    expect(failed.of("SystemExit", "3").class.superclass).to eq(failed) # it would end the process
    expect(failed.of("not a name;", "x").class.name).to eq("not a name;")
  end

  it "says in the reply what a tracked job returned" do
    outcome = SidekiqBridge::Sidecar::Outcome.returned(encoded.of("a" => "é\n"))
    said = JSON.parse(outcome.to_json_for("h:1:a/1", "j", 1.5))
    expect(JSON.parse(said["result"])).to eq("a" => "é\n")
    expect(said["status"]).to eq("done")
    lost = JSON.parse(SidekiqBridge::Sidecar::Outcome.returned(encoded.of(Object.new)).to_json_for("h:1:a/1", "j", 1.5))
    expect(lost).to include("status" => "done", "result_lost" => "JSON cannot hold it: a value of Object")
  end

  # Sidekiq 7.3 raises JobRetry::Skip after it has pushed an interrupted job again: such a job was shown as failed.
  {Sidekiq::Shutdown => "queued", Sidekiq::JobRetry::Skip => "queued", ArgumentError => "retry"}.each do |error, status|
    it "is #{status} after a run that raised #{error}" do
      RedisServer.flush
      server = SidekiqBridge::Results::Server.new
      expect { server.call(nil, {"jid" => "j", "class" => "X", "bridge_track" => true}, "default") { raise error } }.to raise_error(error)
      expect(SidekiqBridge::Results::Store.read("j")["status"]).to eq(status)
    end
  end

  describe "a job that a person deletes" do
    before(:all) { SidekiqBridge::Results::Deleted.install }
    before { RedisServer.flush }

    def push(**fields) = Sidekiq::Client.push({"class" => "TrackedJob", "args" => [], "bridge_track" => true, **fields.transform_keys(&:to_s)})

    def status(jid) = SidekiqBridge::Results::Store.read(jid).values_at("status", "error_class", "error_message")

    over = ["dead", "Bridge::Cancelled", "deleted by a person"]

    it "is over for those who wait, alone or with its whole queue or set" do
      one, other, scheduled = push, push, push(at: Time.now.to_f + 60)
      Sidekiq::Queue.new.find_job(one).delete
      expect(status(one)).to eq(over)
      expect(status(other)&.first).not_to eq("dead")
      Sidekiq::Queue.new.clear
      Sidekiq::ScheduledSet.new.clear
      expect(status(other)).to eq(over)
      expect(status(scheduled)).to eq(over)
    end

    it "keeps its end if it was dead, and nothing is written of a job that is not tracked" do
      Sidekiq::DeadSet.new.kill(Sidekiq.dump_json("jid" => "d", "class" => "X", "args" => [], "bridge_track" => true), notify_failure: false)
      plain = push(bridge_track: false)
      Sidekiq::DeadSet.new.first.delete
      Sidekiq::Queue.new.first.delete
      expect(status("d")).to eq([nil, nil, nil])
      expect(status(plain)).to eq([nil, nil, nil])
    end
  end

  it "writes nothing under Sidekiq::Testing" do
    require "sidekiq/testing"
    RedisServer.flush
    Sidekiq::Testing.fake! { SidekiqBridge::Results::Client.new.call(nil, {"jid" => "j", "bridge_track" => true}, "default", nil) { true } }
    expect(RedisServer.keys).to eq([])
    Sidekiq::Testing.disable! { SidekiqBridge::Results::Client.new.call(nil, {"jid" => "j", "bridge_track" => true}, "default", nil) { true } }
    expect(RedisServer.keys).to include("bridge:result:j")
  ensure
    Sidekiq::Testing.disable!
    RedisServer.flush
  end

  it "forgets the oldest results when they take too much memory" do
    kept = SidekiqBridge::Sidecar::KeptResults.new(3000)
    outcomes = Array.new(4) { kept.add(SidekiqBridge::Sidecar::Outcome.new("done", {"result" => "x" * 800}), 800) }
    texts = outcomes.map { |outcome| outcome.to_json_for("h:1:a/1", "j", 1) }
    expect(texts.map { |text| text.include?("result_lost") }).to eq([true, false, false, false])
  end

  # A job in the list of a watch was unknown, and `Result.get` raised ResultUnknown at once.
  context "with a job that a worker holds" do
    let(:job) { Sidekiq.dump_json("jid" => "a" * 24, "class" => "AddJob", "args" => [], "bridge_track" => true) }
    let(:lookup) { SidekiqBridge::Results::Lookup }

    def redis(*words) = Sidekiq.redis { |redis| redis.call(*words) }

    before do
      require "sidekiq_bridge/results/lookup"
      RedisServer.flush
      redis("ZADD", "bridge:lease", 1, "host:1:a")
      redis("SADD", "bridge:arrived:host:1:a", "1:low", "2:default")
      redis("SET", "bridge:arrived:host:1:a:1:low", "closed")
    end

    after { RedisServer.flush }

    it "finds it in the list of a watch" do
      redis("LPUSH", "bridge:arrived:host:1:a:2:default", job)
      expect(lookup.expected?("a" * 24)).to be(true)
    end

    it "finds it when it enters the hash in the meantime" do
      redis("LPUSH", "bridge:arrived:host:1:a:2:default", job)
      allow(lookup).to receive(:arrived).and_wrap_original do |method, identity|
        method.call(identity).tap do
          redis("DEL", "bridge:arrived:host:1:a:2:default")
          redis("HSET", "bridge:inflight:host:1:a", 1, "1\ndefault\n#{job}")
        end
      end
      expect(lookup.expected?("a" * 24)).to be(true)
    end

    it "knows no other" do
      redis("LPUSH", "bridge:arrived:host:1:a:2:default", job)
      expect(lookup.expected?("b" * 24)).to be(false)
    end
  end

  # `Result.get` raised Redis::ConnectionError when Redis closed its connection, though the job was done later.
  context "with a Redis that closes the connection of a waiting process" do
    let(:jid) { "c" * 24 }
    let(:channel) { "bridge:result:#{jid}" }
    let(:store) { SidekiqBridge::Results::Store }

    before do
      require "sidekiq_bridge/results/result"
      RedisServer.flush
      store.mark(jid, "running", {"class" => "AddJob"})
    end

    after { RedisServer.flush }

    def waiting? = RedisServer.command("PUBSUB NUMSUB #{channel}").include?(":1\r\n")

    def cut = RedisServer.command("CLIENT KILL TYPE pubsub")

    def getting(timeout) = Thread.new { SidekiqBridge::Results::Result.get(jid, timeout: timeout) }.tap { |thread| thread.report_on_exception = false }

    it "listens again" do
      thread = getting(20)
      2.times do
        wait_until("the wait") { waiting? }
        cut
      end
      wait_until("the wait") { waiting? }
      store.settle(jid, "done", {"result" => "3"})
      expect(thread.value).to eq(3)
    end
  end

  # The next job of a chain was pushed, and a crash then left its job "running" without a result.
  it "writes the end of a job and pushes what follows it in one transaction" do
    RedisServer.flush
    step = {"class" => "StoreJob", "args" => [], "queue" => "low", "jid" => "e" * 24}
    job = {"jid" => "f" * 24, "class" => "CountJob", "args" => [], "bridge_track" => true, "bridge_next" => {"chain" => [step]}}
    allow(SidekiqBridge::Results::Store).to receive(:settle).and_raise("a crash")
    SidekiqBridge::Results::Server.new.call(nil, job, "default") { 1 }
    expect(RedisServer.keys).not_to include("queue:low")
    RSpec::Mocks.space.proxy_for(SidekiqBridge::Results::Store).reset
    SidekiqBridge::Results::Server.new.call(nil, job, "default") { 1 }
    expect(Sidekiq.redis { |redis| redis.call("LLEN", "queue:low") }).to eq(1)
    expect(SidekiqBridge::Results::Store.read("f" * 24)).to include("status" => "done")
  ensure
    RedisServer.flush
  end
end
