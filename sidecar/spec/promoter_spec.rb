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

  # Any of these was a 500 for the whole batch: the worker pushed the jobs beside it that middleware had halted.
  it "takes whatever middleware does to one job for that job's own" do
    odd = Class.new do
      def call(_job_class, job, _queue, _redis_pool)
        case job["args"].first
        when "script" then raise NotImplementedError, "abstract"
        when "exit" then exit
        when "throw" then throw :halt, [200, "{}"]
        when "kill" then Thread.current.kill
        when "stack" then call(_job_class, job, _queue, _redis_pool)
        when "bytes" then job["x"] = "\xff".b
        when "number" then job["x"] = Float::NAN
        when "deep" then job["x"] = 99.times.reduce([]) { |inner, _| [inner] }
        end
        yield
      end
    end
    chain.add odd
    catch(:halt) do
      %w[script exit throw kill stack bytes number deep].each do |kind|
        expect(passed(payload("args" => ["halt"]), payload("args" => [kind]), payload)).to match([{"halted" => true}, {"error" => String}, include("fields")]), kind
      end
    end
  ensure
    chain.remove odd
  end

  # It ran for 100 jobs and 1,000 s, while the worker waited for 40 s and pushed all of them.
  it "begins no further entry once middleware was slow for long, and answers for at least one" do
    stub_const("#{described_class}::LONGEST_SECONDS", 0)
    expect(passed(payload("args" => ["halt"]), payload, payload)).to eq([{"halted" => true}])
  end

  it "refuses a body that is not a list of payloads" do
    ["x", "5\nabc", "-1\n"].each { |body| expect { described_class.new.call(body) }.to raise_error(SidekiqBridge::Sidecar::RequestError) }
  end
end
