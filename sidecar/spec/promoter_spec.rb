# frozen_string_literal: true

require_relative "spec_helper"
require "sidekiq_bridge/sidecar/sidekiq/promoter"

RSpec.describe SidekiqBridge::Sidecar::Promoter do
  let(:stamping) do
    Class.new do
      def call(_job_class, job, _queue, _redis_pool)
        raise "no stamp" if job["args"] == ["fail"]
        return false if job["args"] == ["halt"]
        job["stamp"] = {"by" => 1}
        job.delete("secret")
        yield
      end
    end
  end

  let(:chain) { SidekiqBridge::Sidecar::VersionAdapter.current.client_chain }

  before { chain.add stamping }

  after { chain.remove stamping }

  def passed(*payloads)
    described_class.new.call(payloads.map { |text| "#{text.bytesize}\n#{text}" }.join)
  end

  it "tells what the middleware set and removed, and nothing else" do
    expect(passed(payload("secret" => "x", "retry_count" => 3, "args" => [1.0, 2**70, "zoë"])))
      .to eq([{"fields" => {"stamp" => {"by" => 1}}, "removed" => ["secret"]}])
  end

  it "writes nothing" do
    RedisServer.flush
    passed(payload)
    expect(RedisServer.keys).to eq([])
  end

  it "answers for each in its order, whatever becomes of the others" do
    found = passed(payload("args" => ["halt"]), payload("args" => ["fail"]), "{", payload("args" => ["\n1\n"]))
    expect(found).to match([{"halted" => true}, {"error" => "RuntimeError: no stamp"}, {"error" => String}, include("fields")])
  end

  it "refuses a body that is not a list of payloads" do
    ["x", "5\nabc", "-1\n"].each { |body| expect { described_class.new.call(body) }.to raise_error(SidekiqBridge::Sidecar::RequestError) }
  end
end
