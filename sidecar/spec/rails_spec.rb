# frozen_string_literal: true

require_relative "spec_helper"

RSpec.describe "A sidecar with a Rails app" do
  app = File.join(FIXTURES, "rails_app")

  before(:context) do
    @directory = Dir.mktmpdir("sidecar-trace-")
    files = {"TRACE_FILE" => File.join(@directory, "trace"), "RAILS_LOG_FILE" => File.join(@directory, "rails.log")}
    @sidecar = SidecarProcess.new(app, "--environment", "test", env: files)
    @sidecar.start
  end

  after(:context) do
    @sidecar&.kill
    FileUtils.remove_entry(@directory)
  end

  attr_reader :sidecar

  def trace = File.readlines(File.join(@directory, "trace")).map { |line| JSON.parse(line) }

  def wrapper_class
    (SIDEKIQ >= Gem::Version.new("7.3.3")) ? "Sidekiq::ActiveJob::Wrapper" : old_wrapper_class
  end

  def old_wrapper_class = "ActiveJob::QueueAdapters::SidekiqAdapter::JobWrapper"

  def active_job(name, *args, label: name, wrapper: wrapper_class, **more)
    data = {"job_class" => name, "job_id" => "1-2-3", "provider_job_id" => nil, "queue_name" => "default", "priority" => nil,
            "arguments" => args, "executions" => 0, "exception_executions" => {}, "locale" => "en", "timezone" => "UTC", "enqueued_at" => "2026-01-01T00:00:00Z"}
    payload({"class" => wrapper, "wrapped" => label, "args" => [data]}.merge(more))
  end

  it "marks each line of the Rails log with the ids of its job" do
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    sidecar.execute(payload("class" => "SpeakingJob", "jid" => "t9", "correlation_id" => "request-7", "traceparent" => parent))
    expect(File.read(File.join(@directory, "rails.log"))).to include(
      "[jid=t9] [correlation_id=request-7] [trace_id=0af7651916cd43dd8448eb211c80319c] a line of the job"
    )
  end

  it "boots it as Sidekiq would: configure_server blocks run" do
    expect(trace).to include("configure_server")
    expect(trace).not_to include("configure_client")
    expect(sidecar.health).to include("environment" => "test", "rails" => match(/\A\d/))
  end

  it "takes from config/sidekiq.yml what concerns jobs" do
    expect(sidecar.health).to include("max_retries" => 7, "dead" => include("max_jobs" => 77))
    expect(sidecar.health["workers"].first["slots"]).to eq(5)
  end

  it "runs jobs inside the app's executor, each with its own CurrentAttributes" do
    cattr = (SIDEKIQ >= Gem::Version.new("8")) ? [["tenant", "acme"]] : {"tenant" => "acme"}
    2.times { |index| expect(sidecar.execute(payload("class" => "TenantJob", "jid" => "t#{index}", "cattr" => cattr))).to match([200, include("status" => "done")]) }
    expect(sidecar.execute(payload("class" => "TenantJob", "jid" => "t3"))).to match([200, include("status" => "done")])
    expect(trace.select { |entry| entry.is_a?(Array) && entry.last == true }.map(&:first)).to eq(["acme", "acme", nil])
  end

  it "runs ActiveJobs, by every wrapper its Sidekiq knows" do
    expect(sidecar.execute(active_job("GreetingJob", "Ada", "jid" => "a1"))).to match([200, include("status" => "done")])
    expect(sidecar.execute(active_job("GreetingJob", "Bob", "jid" => "a2", wrapper: old_wrapper_class))).to match([200, include("status" => "done")])
    expect(trace).to include(%w[a1 Ada], %w[a2 Bob])
  end

  describe "an ActiveJob whose code is in Python" do
    def python(job, delivery) = sidecar.execute(job, delivery: delivery, body: "python", lease_ms: 15_000)

    def report(delivery, **said) = sidecar.json(:post, "/jobs/#{delivery}/body", JSON.generate({turn: 1, **said}), Requests.headers(boot: sidecar.boot))

    it "runs its callbacks around the code" do
      ended = trace.count(["after"])
      expect(python(active_job("PythonReportJob", 7, "jid" => "p1"), "h:1:p/1")).to match([200, include("status" => "body", "turn" => 1)])
      expect(trace).to include(["before", [7]], ["around"])
      expect(trace.count(["after"])).to eq(ended)
      expect(report("h:1:p/1", status: "done")).to match([200, include("status" => "done")])
      expect(trace.count(["after"])).to eq(ended + 1)
    end

    # The code of the outer job ran a second time in the place of the inner one's.
    it "runs a job that a callback performs, of another class or its own, in Ruby" do
      python(active_job("PythonAuditJob", "jid" => "p4"), "h:1:p/4")
      report("h:1:p/4", status: "done")
      python(active_job("PythonReportJob", "audit", "jid" => "p5"), "h:1:p/5")
      expect(trace).not_to include(["audited", nil])
      expect(report("h:1:p/5", status: "done")).to match([200, include("status" => "done")])
      expect(trace.count(["audited", nil])).to eq(2)
    end

    it "heeds its discard_on" do
      python(active_job("PythonReportJob", "jid" => "p2"), "h:1:p/2")
      expect(report("h:1:p/2", status: "failed", class: "ValueError", message: "no")).to match([200, include("status" => "done")])
      expect(trace).to include(%w[discarded p2 ValueError])
    end

    it "has a placeholder for a class that the app lacks" do
      expect(python(active_job("OnlyPythonJob", "jid" => "p3"), "h:1:p/3")).to match([200, include("status" => "body")])
      expect(report("h:1:p/3", status: "failed", class: "ValueError", message: "no")).to match([200, include("error" => include("class" => "ValueError"), "next" => include("place" => "retry"))])
    end
  end

  it "deserialises the arguments as ActiveJob does" do
    arguments = {"_aj_serialized" => "ActiveJob::Serializers::SymbolSerializer", "value" => "symbol"}
    sidecar.execute(active_job("GreetingJob", arguments, "jid" => "a3"))
    expect(trace).to include(%w[a3 symbol])
  end

  it "asks the wrapped class about retries where its Sidekiq does" do
    _, outcome = sidecar.execute(active_job("GreetingJob", nil, "jid" => "a4"))
    own = SIDEKIQ >= Gem::Version.new("7.1.3")
    expect(outcome["next"]).to include("place" => "retry", "delay_source" => own ? "sidekiq_retry_in" : "default")
    expect(outcome["error"]).to eq("class" => "ArgumentError", "message" => "no name")
  end

  it "refuses a wrapper around a class that is no ActiveJob, whatever its label says" do
    expect(sidecar.execute(active_job("Impostor", label: "GreetingJob", "jid" => "a5"))).to match([422, include("message" => "Impostor is not an ActiveJob class")])
    expect(sidecar.execute(active_job("Kernel", "jid" => "a6")).first).to eq(422)
    expect(sidecar.execute(payload("class" => wrapper_class, "args" => ["x"], "jid" => "a7")).first).to eq(422)
    expect(trace).not_to include("instantiated")
  end

  # Object::<wrapper> was not known for a wrapper: any class was made, with any arguments.
  it "refuses a detour to a wrapper, and to a wrapped class" do
    %w[StringIO Tempfile Gem::Specification Impostor GreetingJob].each_with_index do |name, index|
      answer = sidecar.execute(active_job(name, "jid" => "o#{index}", :wrapper => "Object::#{wrapper_class}"))
      expect(answer).to match([422, include("message" => include("a detour to #{wrapper_class}"))])
    end
    expect(sidecar.execute(active_job("Object::GreetingJob", "jid" => "o9"))).to match([422, include("message" => include("a detour to GreetingJob"))])
    expect(trace).not_to include("instantiated")
  end

  it "takes another constant for a wrapper, and a class derived from one, for wrappers" do
    %w[Impostor Kernel StringIO].each { |name| expect(sidecar.execute(active_job(name, "jid" => "n#{name}", :wrapper => "OldWrapper")).first).to eq(422) }

    expect(sidecar.execute(active_job("Impostor", "jid" => "s1", :wrapper => "DerivedWrapper"))).to match([422, include("message" => "Impostor is not an ActiveJob class")])
    expect(sidecar.execute(active_job("GreetingJob", "Dan", "jid" => "s2", :wrapper => "DerivedWrapper"))).to match([200, include("status" => "done")])
    expect(trace).not_to include("instantiated")
  end

  it "deserialises by no class but ActiveJob's serializers and GlobalID's models" do
    {"_aj_serialized" => "Impostor"}.then { |argument| expect(sidecar.execute(active_job("GreetingJob", argument, "jid" => "g1"))).to match([200, include("error" => include("class" => "ActiveJob::DeserializationError"))]) }
    %w[Impostor Kernel Object::Record].each_with_index do |name, index|
      _, outcome = sidecar.execute(active_job("GreetingJob", {"_aj_globalid" => "gid://fixture/#{name}/1"}, "jid" => "g#{index + 2}"))
      expect(outcome["error"]).to eq("class" => "ActiveJob::DeserializationError", "message" => "Error while trying to deserialize arguments: #{name} is not a model that GlobalID finds")
    end
    sidecar.execute(active_job("GreetingJob", {"_aj_globalid" => "gid://fixture/Record/7"}, "jid" => "g9"))
    expect(trace).to include(["g9", "record 7"])
    expect(trace).not_to include("deserialized", "found", "instantiated")
  end

  it "fails a wrapper around a class that does not exist" do
    expect(sidecar.execute(active_job("NoSuchJob", "jid" => "a8"))).to match([200, include("status" => "failed", "next" => include("place" => "retry"))])
  end

  it "fails the new wrapper where its Sidekiq does not know it", sidekiq: "< 7.3.3" do
    expect(sidecar.execute(active_job("GreetingJob", "Eve", "jid" => "a9", wrapper: "Sidekiq::ActiveJob::Wrapper"))).to match([200, include("status" => "failed")])
  end
end
