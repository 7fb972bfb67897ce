# frozen_string_literal: true

require_relative "spec_helper"
require "rack/lint"
require "rack/mock"

RSpec.describe "The requests of the protocol" do
  let(:bind) { Struct.new(:bind).new(SidekiqBridge::Sidecar::Bind.parse("unix:///tmp/none.sock")) }
  let(:settings) { SidekiqBridge::Sidecar::Settings.new({app: SETTINGS.app, threads: 2, max_body: 2000, environment: "test"}) }
  let(:worker) { SidekiqBridge::Sidecar::JobServer.new(settings, listeners: [bind]).tap { |worker| worker.executor.start } }
  let(:server) { Rack::MockRequest.new(Rack::Lint.new(worker.app)) }
  let(:boot) { worker.worker_state.to_h["boot"] }

  after { Trace.release && worker.executor.stop(5) }

  def ask(method, path, body: nil, headers: Requests.headers(boot: boot))
    env = headers.to_h { |name, value| ["HTTP_#{name.upcase.tr("-", "_")}", value] }
    response = server.request(method, path, env.merge(input: body.to_s))
    @headers = response.headers
    [response.status, JSON.parse(response.body)]
  end

  def execute(body = payload, delivery: "h:1:a/1", **more)
    ask("POST", "/jobs/execute", body: body, headers: Requests.headers(boot: boot, delivery: delivery, **more))
  end

  it "runs a job and answers with the outcome" do
    expect(execute).to match([200, {"status" => "done", "jid" => "0123456789abcdef01234567", "delivery" => "h:1:a/1", "duration_ms" => be_a(Float)}])
  end

  it "reads the body whatever type it is said to be" do
    env = Requests.headers(boot: boot, delivery: "h:1:a/1").to_h { |name, value| ["HTTP_#{name.upcase.tr("-", "_")}", value] }
    %w[application/x-www-form-urlencoded multipart/form-data].each do |type|
      expect(server.post("/jobs/h:1:a/1/cancel", env.merge(input: '{"reason":"revoked%zz"}', "CONTENT_TYPE" => type)).status).to eq(404).or eq(400)
      expect(server.post("/jobs/execute", env.merge(input: payload, "CONTENT_TYPE" => type)).status).to eq(200)
    end
  end

  it "answers 202 for a job that takes longer than the client waits, and the outcome when it asks again" do
    expect(execute(payload("class" => "WaitingJob"), wait_ms: 0)).to eq([202, {"status" => "running", "delivery" => "h:1:a/1", "jid" => "0123456789abcdef01234567"}])
    expect(ask("GET", "/jobs/h:1:a/1?wait_ms=1").first).to eq(202)
    Trace.release
    expect(ask("GET", "/jobs/h:1:a/1?wait_ms=5000")).to match([200, include("status" => "done")])
  end

  it "tells another protocol, another boot id and a missing record apart" do
    expect(ask("POST", "/jobs/execute", headers: {"X-Bridge-Protocol" => "1"})).to match([400, include("code" => "protocol")])
    expect(ask("POST", "/jobs/execute", headers: Requests.headers(boot: "other"))).to match([421, include("code" => "misdirected", "boot" => boot)])
    expect(ask("GET", "/jobs/h:1:a/1")).to match([404, include("code" => "unknown")])
  end

  it "refuses what it cannot read" do
    expect(execute("{")).to match([400, include("code" => "malformed")])
    expect(execute("[1]")).to match([400, include("code" => "malformed")])
    expect(execute(payload, delivery: "nonsense")).to match([400, include("code" => "protocol")])
    expect(execute(payload, claimed_at: "soon")).to match([400, include("code" => "protocol")])
  end

  it "refuses bodies that are too large, and never reads far beyond the limit" do
    expect(execute("x" * 2001)).to match([413, include("code" => "too_large")])
    endless = Object.new
    def endless.read(length, *) = "x" * length
    env = {"REQUEST_METHOD" => "POST", "PATH_INFO" => "/jobs/execute", "HTTP_X_BRIDGE_PROTOCOL" => "2", "rack.input" => endless,
           "HTTP_X_BRIDGE_BOOT" => boot, "HTTP_X_BRIDGE_DELIVERY" => "h:1:a/1", "HTTP_X_BRIDGE_CLAIMED_AT" => "1"}
    expect(worker.app.call(env).first).to eq(413)
  end

  it "refuses classes that are not jobs with 422, permanently" do
    expect(execute(payload("class" => "NotAJob"))).to match([422, include("code" => "refused")])
    expect(ask("GET", "/jobs/h:1:a/1")).to match([422, include("code" => "refused")])
  end

  it "answers with the failure and what is to be done" do
    expect(execute(payload("class" => "FailingJob"))).to match([200, include("status" => "failed", "next" => include("place" => "retry"))])
  end

  it "says how long to stay away when all slots are busy" do
    2.times { |index| execute(payload("class" => "WaitingJob", "jid" => index.to_s), delivery: "h:1:a/#{index}", wait_ms: 0) }
    expect(execute(payload("jid" => "3"), delivery: "h:1:a/3")).to match([503, include("code" => "no_slot")])
    expect(@headers["retry-after"]).to eq("1")
  end

  it "drains: new jobs are refused, running ones go on, and the probe says so" do
    execute(payload("class" => "WaitingJob"), wait_ms: 0)
    expect(ask("POST", "/drain", headers: Requests.headers(boot: "other"))).to match([421, include("code" => "misdirected")])
    expect(ask("POST", "/drain").first).to eq(202)
    expect(execute(payload("jid" => "2"), delivery: "h:1:a/2")).to match([503, include("code" => "draining")])
    expect(@headers["retry-after"]).to eq("5")
    expect(execute(payload("class" => "WaitingJob"), wait_ms: 0).first).to eq(202)
    worker.health.booted
    expect(ask("GET", "/health/ready", headers: {})).to eq([503, {"status" => "draining"}])
  end

  describe "commands" do
    before { execute(payload("class" => "WaitingJob"), wait_ms: 0) && wait_until { Trace.include?(:started) } }

    it "interrupt a job" do
      expect(ask("POST", "/jobs/h:1:a/1/interrupt").first).to eq(202)
      expect(ask("GET", "/jobs/h:1:a/1")).to match([200, include("status" => "shutdown")])
    end

    it "cancel a job, with the reason they give" do
      expect(ask("POST", "/jobs/h:1:a/1/cancel", body: '{"reason":"deadline","message":"late"}').first).to eq(202)
      expect(ask("GET", "/jobs/h:1:a/1")).to match([200, include("error" => {"class" => "Bridge::DeadlineExceeded", "message" => "late"})])
    end

    it "must be understood" do
      ["", "[]", '{"reason":"mood"}', "null"].each { |body| expect(ask("POST", "/jobs/h:1:a/1/cancel", body: body)).to match([400, include("code" => "protocol")]) }
      expect(ask("POST", "/jobs/h:1:a/2/cancel", body: '{"reason":"revoked"}')).to match([404, include("code" => "unknown")])
    end
  end

  it "describes itself" do
    status, health = ask("GET", "/health")
    expect(status).to eq(200)
    expect(health).to include("protocol" => 2, "boot" => boot, "sidekiq" => Sidekiq::VERSION, "ruby" => RUBY_VERSION, "environment" => "test",
      "max_retries" => 25, "dead" => {"max_jobs" => 10_000, "timeout_seconds" => 15_552_000}, "client_middleware" => [], "cron" => [], "cron_unserved" => [],
      "timestamps" => (SIDEKIQ >= Gem::Version.new("8")) ? "milliseconds" : "seconds",
      "metrics_family" => {6 => "none", 7 => "7", 8 => "8"}.fetch(SIDEKIQ.segments.first))
    expect(health["workers"]).to match([include("index" => 0, "boot" => boot, "pid" => Process.pid, "slots" => 2, "busy" => 0, "rss_bytes" => be > 1_000_000)])
  end

  it "answers probes and Prometheus without a header, and says nothing of jobs" do
    expect(ask("GET", "/health/live", headers: {})).to eq([200, {"status" => "live"}])
    expect(ask("GET", "/health/ready", headers: {})).to eq([503, {"status" => "booting"}])
    execute
    text = server.get("/metrics").body
    expect(text).to include('bridge_sidecar_slots{worker="0"} 2', 'bridge_sidecar_jobs_total{worker="0",status="done"} 1')
    expect(text).not_to include("TracingJob")
  end

  it "has the same envelope for what does not exist" do
    expect(ask("GET", "/nowhere")).to match([404, include("code" => "not_found", "message" => String)])
    expect(ask("GET", "/jobs/execute")).to match([404, include("code" => "not_found")])
  end

  it "shows nothing of its own errors" do
    allow(worker.executor).to receive(:find).and_raise("a secret")
    expect(execute).to match([500, {"code" => "internal", "message" => String}])
    expect(execute.last.to_s).not_to include("a secret")
    expect(ask("GET", "/jobs/h:1:a/1").last.to_s).not_to include("a secret")
  end
end
