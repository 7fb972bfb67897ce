# frozen_string_literal: true

require_relative "spec_helper"
require "sidekiq_bridge/sidecar/sidekiq/pusher"

class PushedClientMiddleware
  def call(job_class, job, queue, _pool)
    Trace.add([job_class.to_s, queue])
    raise "no" if job["tags"] == ["raise"]
    Thread.current.kill if job["tags"] == ["kill"]
    job["tenant"] = "acme"
    job["jid"] = "its-own-jid" if job["tags"] == ["jid"]
    yield unless job["tags"] == ["halt"]
  end
end

class PushedJob
  include JobModule
  sidekiq_options queue: "reports", retry: 3, lock: "until_executed"
  def perform(*) = nil
end

RSpec.describe SidekiqBridge::Sidecar::Pusher do
  let(:pusher) { described_class.new }

  before do
    Sidekiq.redis { |redis| redis.call("flushdb") }
    chains { |chain| chain.add(PushedClientMiddleware) }
  end

  after { chains { |chain| chain.remove(PushedClientMiddleware) } }

  def chains(&block) = Sidekiq.configure_server { |config| config.client_middleware(&block) }

  def push(id: "p1", implied: %w[retry queue], **fields)
    job = {"class" => "PushedJob", "args" => [1], "jid" => "0123456789abcdef01234567", "queue" => "default", "retry" => true}.merge(fields.transform_keys(&:to_s))
    pusher.call(JSON.generate(id: id, job: JSON.generate(job), implied: implied))
  end

  def queued(queue) = Sidekiq.redis { |redis| redis.call("lrange", "queue:#{queue}", 0, -1) }.map { |text| JSON.parse(text) }

  it "pushes with the options of the Ruby class, through the app's client middleware" do
    expect(push).to eq("jid" => "0123456789abcdef01234567", "queue" => "reports")
    expect(queued("reports")).to match([include("class" => "PushedJob", "retry" => 3, "lock" => "until_executed", "tenant" => "acme", "enqueued_at" => Numeric)])
    expect(Trace.entries).to eq([["PushedJob", "reports"]])
  end

  # The batch waited for the jid that it knew.
  it "refuses a job whose jid middleware has changed, where something waits for it" do
    %w[bridge_batch bridge_track].each_with_index do |field, i|
      said = push(id: "j#{i}", tags: ["jid"], **{field => true})["error"]
      expect(said).to include("client middleware changed the jid 0123456789abcdef01234567 to its-own-jid")
    end
    expect(queued("reports")).to eq([])
    expect(push(id: "j3", tags: ["jid"])).to include("jid" => "its-own-jid")
    expect(push(id: "j4", bridge_track: true)).to include("queue" => "reports")
  end

  it "lets options of the push count more than those of the class" do
    push(implied: [], retry: 0, queue: "low")
    expect(queued("low")).to match([include("retry" => 0, "lock" => "until_executed")])
  end

  it "pushes a class that exists in Python alone" do
    expect(push(class: "OnlyPython::Job")).to include("queue" => "default")
    expect(queued("default")).to match([include("class" => "OnlyPython::Job", "retry" => true, "tenant" => "acme")])
  end

  # A shard: perform_async pushes to the Redis that the class names.
  it "pushes to the Redis that the class names" do
    pool = Sidekiq::RedisConnection.create(size: 20, url: ENV.fetch("REDIS_URL").sub(%r{/\d+\z}, "/3"))
    stub_const("ShardedJob", Class.new(PushedJob) { sidekiq_options pool: pool })
    expect(push(class: "ShardedJob")).to include("queue" => "reports")
    expect(pool.with { |redis| redis.call("llen", "queue:reports") }).to eq(1)
    expect(queued("reports")).to be_empty
  ensure
    pool&.with { |redis| redis.call("flushdb") }
  end

  it "pushes through the client that the class names", sidekiq: ">= 7" do
    client = Class.new(Sidekiq::Client) { def push(item) = super.tap { Trace.add([:own_client, item["jid"]]) } }
    stub_const("ClientJob", Class.new(PushedJob) { sidekiq_options client_class: client })
    expect(push(class: "ClientJob")).to include("queue" => "reports")
    expect(Trace.entries).to include([:own_client, "0123456789abcdef01234567"])
  end

  it "schedules" do
    push(at: 4_000_000_000.5)
    expect(Sidekiq.redis { |redis| redis.call("zcard", "schedule") }).to eq(1)
  end

  it "pushes once for each id, whatever asks again" do
    replies = Array.new(5) { Thread.new { push } }.map(&:value)
    expect(replies.uniq.size).to eq(1)
    expect(queued("reports").size).to eq(1)
    push(id: "p2")
    expect(queued("reports").size).to eq(2)
  end

  it "says that middleware stopped it, raised, or killed its thread" do
    expect(push(tags: ["halt"])).to eq("halted" => true)
    expect(push(id: "p2", tags: ["raise"])).to eq("error" => "RuntimeError: no")
    expect(push(id: "p3", tags: ["kill"])).to eq("error" => "middleware killed its thread")
    expect(push(id: "p4", class: "NotAJob")["error"]).to include("NotAJob is not a Sidekiq job class")
    expect(queued("reports") + queued("default")).to be_empty
  end

  it "refuses what it cannot read" do
    ["", "[]", "{}", '{"id":1,"job":"{}","implied":[]}', '{"id":"1","job":"{","implied":[]}'].each do |body|
      expect { pusher.call(body) }.to raise_error(SidekiqBridge::Sidecar::RequestError) { |error| expect(error.code).to eq("protocol") }
    end
  end
end
