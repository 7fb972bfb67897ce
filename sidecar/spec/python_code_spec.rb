# frozen_string_literal: true

require_relative "spec_helper"
require "rack/mock"

class PythonHooksJob
  include JobModule
  sidekiq_retry_in { |_count, error| (error.is_a?(SidekiqBridge::PythonError) && error.class.name == "ValueError") ? 7 : nil }
  def perform(*) = raise("Ruby's own perform must not run")
end

class TwiceMiddleware
  def call(_job, hash, _queue)
    hash["timeout"] ? Timeout.timeout(hash["timeout"]) { yield } : yield
    yield if hash["twice"]
  end
end

class SwallowingMiddleware
  def call(_job, hash, _queue)
    yield
  rescue SidekiqBridge::PythonError
    raise unless hash["swallow"]
  ensure
    Trace.add(:unwound) if hash["unwind"]
  end
end

# Server middleware runs in Ruby, and the code of the job runs in a worker: here the spec is the worker.
RSpec.describe "Python code inside Ruby's middleware" do
  before(:all) { each_chain { |chain, middleware| chain.add(middleware) } }

  after(:all) { each_chain { |chain, middleware| chain.remove(middleware) } }

  # A capsule of Sidekiq 7 has a copy of the chain.
  def each_chain
    SidekiqBridge::Sidecar::VersionAdapter.current.chains.product([TwiceMiddleware, SwallowingMiddleware]) { |pair| yield(*pair) }
  end

  let(:bind) { Struct.new(:bind).new(SidekiqBridge::Sidecar::Bind.parse("unix:///tmp/none.sock")) }
  let(:settings) { SidekiqBridge::Sidecar::Settings.new({app: SETTINGS.app, threads: 2, environment: "test"}) }
  let(:worker) { SidekiqBridge::Sidecar::JobServer.new(settings, listeners: [bind]).tap { |worker| worker.executor.start } }
  let(:server) { Rack::MockRequest.new(worker.app) }
  let(:boot) { worker.worker_state.to_h["boot"] }

  after { worker.executor.stop(0) }

  def ask(method, path, text = "", **headers)
    env = Requests.headers(boot: boot, **headers).to_h { |name, value| ["HTTP_#{name.upcase.tr("-", "_")}", value] }
    response = server.request(method, path, env.merge(input: text))
    [response.status, JSON.parse(response.body)]
  end

  def execute(delivery: "h:1:a/1", lease_ms: 15_000, wait_ms: 5000, claimed_at: 1, recovered: 0, **fields)
    ask("POST", "/jobs/execute", payload({"class" => "PythonHooksJob"}.merge(fields)), delivery: delivery, claimed_at: claimed_at,
      recovered: recovered, body: "python", lease_ms: lease_ms, wait_ms: wait_ms)
  end

  def report(status, turn: 1, delivery: "h:1:a/1", **more)
    ask("POST", "/jobs/#{delivery}/body", JSON.generate({turn: turn, status: status, **more}))
  end

  it "asks for the code once middleware has run, and is done when the code is" do
    expect(execute("args" => [1], "unwind" => true)).to eq([200, {"status" => "body", "jid" => "0123456789abcdef01234567", "delivery" => "h:1:a/1",
      "turn" => 1, "fields" => {}, "removed" => []}])
    expect(Trace.entries).to be_empty
    expect(report("done")).to match([200, include("status" => "done", "delivery" => "h:1:a/1")])
    expect(Trace.entries).to eq([:unwound])
  end

  it "raises a failure under the Python class's name, and Ruby's hooks decide" do
    execute("backtrace" => true)
    status, outcome = report("failed", class: "ValueError", message: "no", backtrace: ["tasks.py:3:in `report'"])
    expect([status, outcome["error"]]).to eq([200, {"class" => "ValueError", "message" => "no"}])
    expect(outcome["next"]).to include("place" => "retry", "delay" => be_between(7, 17), "delay_source" => "sidekiq_retry_in")
    expect(outcome["next"]["fields"]).to include("error_class" => "ValueError", "error_message" => "no", "error_backtrace" => String)
  end

  it "runs the death handlers of a job that has no retry left" do
    execute("retry" => 0)
    expect(report("failed", class: "KeyError", message: "'x'").last["next"]).to include("place" => "dead")
    expect(Trace.entries).to include([:death, "PythonHooksJob", "'x'"])
  end

  it "heeds the task's own number of retries, and keeps that of the job" do
    execute("retry" => 5)
    decision = report("failed", class: "ValueError", message: "no", limit: 0).last["next"]
    expect(decision).to include("place" => "dead")
    expect(decision["fields"]).not_to include("retry")
    execute("retry" => 0, "jid" => "2", delivery: "h:1:a/2")
    expect(report("failed", delivery: "h:1:a/2", class: "ValueError", message: "no", limit: 9).last["next"]).to include("place" => "dead")
    execute("retry" => true, "jid" => "3", delivery: "h:1:a/3")
    expect(report("failed", delivery: "h:1:a/3", class: "ValueError", message: "no", limit: 1).last["next"]).to include("place" => "retry")
  end

  it "is done where middleware does not yield, and asks for nothing" do
    expect(execute("skip" => true)).to match([200, include("status" => "done")])
  end

  it "is done where middleware swallows the failure" do
    execute("swallow" => true)
    expect(report("failed", class: "ValueError", message: "no")).to match([200, include("status" => "done")])
  end

  it "gives the changes of middleware to the code" do
    expect(execute("args" => [1], "change" => [2, {"a" => nil}]).last).to include("fields" => {"args" => [2, {"a" => nil}]})
    report("done")
  end

  it "asks again where middleware yields twice; a repeated report ends no later turn" do
    execute("twice" => true)
    expect(report("done")).to match([200, include("status" => "body", "turn" => 2)])
    expect(report("done")).to match([200, include("status" => "body", "turn" => 2)])
    expect(report("done", turn: 2)).to match([200, include("status" => "done")])
  end

  it "fails at a timeout of middleware; the late report of the code gets that outcome" do
    execute("timeout" => 0.2, "unwind" => true)
    wait_until("the run to unwind") { Trace.include?(:unwound) }
    expect(report("done")).to match([200, include("status" => "failed", "error" => include("class" => "Timeout::Error"))])
  end

  it "answers a repeated report from the record" do
    execute
    first = report("done")
    expect(report("done")).to eq(first)
  end

  it "asks again under the same delivery while it waits: the first reply may be lost" do
    first = execute
    expect(execute).to eq(first)
    report("done")
  end

  it "ends as revoked, or at its time limit, as a Ruby job does" do
    execute
    expect(report("cancelled", message: "cancelled by revoke").last).to include("error" => {"class" => "Bridge::Cancelled", "message" => "cancelled by revoke"}, "next" => {"place" => "none"})
    execute(delivery: "h:1:a/2", "jid" => "2")
    expect(report("failed", delivery: "h:1:a/2", class: "Bridge::DeadlineExceeded", message: "late").last["error"]).to eq("class" => "Bridge::DeadlineExceeded", "message" => "late")
  end

  it "unwinds when it is interrupted; the late report of the code gets that outcome" do
    execute("unwind" => true)
    expect(ask("POST", "/jobs/h:1:a/1/interrupt").first).to eq(202)
    wait_until("the run to unwind") { Trace.include?(:unwound) }
    expect(report("done")).to match([200, include("status" => "shutdown")])
  end

  it "unwinds without a spent attempt once its worker has lost its lease" do
    execute("unwind" => true, lease_ms: 1000)
    wait_until("the run to unwind") { Trace.include?(:unwound) }
    expect(report("done")).to match([200, include("status" => "shutdown", "asked" => false)])
    expect(worker.executor.busy).to eq(0)
  end

  it "waits while its worker reports that it runs the code" do
    execute(lease_ms: 1000)
    until_at = Process.clock_gettime(Process::CLOCK_MONOTONIC) + 1.5
    while Process.clock_gettime(Process::CLOCK_MONOTONIC) < until_at
      expect(ask("POST", "/jobs/alive", JSON.generate(deliveries: ["h:1:a/1", "h:1:a/9"]))).to eq([202, {"status" => "alive"}])
      sleep 0.1
    end
    expect(report("done")).to match([200, include("status" => "done")])
  end

  it "goes on with the code of the worker that recovered the job" do
    execute("created_at" => 1.0)
    expect(execute(delivery: "h:1:b/1", claimed_at: 2, recovered: 1, "created_at" => 1.0)).to match([200, include("status" => "body", "turn" => 1, "delivery" => "h:1:b/1")])
    expect(report("done")).to match([409, include("code" => "superseded")])
    expect(report("done", delivery: "h:1:b/1")).to match([200, include("status" => "done")])
  end

  it "is not taken over by a worker that would run the job in Ruby" do
    execute
    body = payload("class" => "PythonHooksJob")
    expect(ask("POST", "/jobs/execute", body, delivery: "h:1:b/1", claimed_at: 2, recovered: 1)).to match([409, include("code" => "running")])
    report("done")
  end

  it "has a placeholder for a class that the app lacks" do
    execute("class" => "OnlyInPython::ReportJob")
    expect(report("done")).to match([200, include("status" => "done")])
    expect(OnlyInPython::ReportJob.ancestors).to include(SidekiqBridge::PythonJob)
    expect { OnlyInPython::ReportJob.new.perform }.to raise_error(NotImplementedError, /is written in Python/)
  end

  it "has no placeholder for a class that is another thing, or whose file fails" do
    expect(execute("class" => "NotAJob")).to match([422, include("code" => "refused")])
    Object.autoload(:BrokenFileJob, File.join(__dir__, "fixtures/broken_file_job.rb"))
    expect(execute("class" => "BrokenFileJob", "jid" => "2", delivery: "h:1:a/2")).to match([200, include("status" => "failed", "error" => include("class" => "NameError"))])
  end

  it "refuses what it cannot read" do
    execute
    ["", "[]", '{"turn":1,"status":"mood"}', '{"turn":"1","status":"done"}', '{"turn":1,"status":"failed","limit":"3"}'].each do |body|
      expect(ask("POST", "/jobs/h:1:a/1/body", body)).to match([400, include("code" => "protocol")])
    end
    expect(report("done", delivery: "h:1:a/9")).to match([404, include("code" => "unknown")])
    ["", "[]", "{}", '{"deliveries":1}'].each { |body| expect(ask("POST", "/jobs/alive", body)).to match([400, include("code" => "protocol")]) }
    expect(execute(delivery: "h:1:a/3", lease_ms: "soon")).to match([400, include("code" => "protocol")])
  end
end
