# frozen_string_literal: true

require_relative "spec_helper"
require "rack/mock"

RSpec.describe "Notices of jobs that ended outside of Ruby" do
  let(:bind) { Struct.new(:bind).new(SidekiqBridge::Sidecar::Bind.parse("unix:///tmp/none.sock")) }
  let(:settings) { SidekiqBridge::Sidecar::Settings.new({app: SETTINGS.app, threads: 2, environment: "test"}) }
  let(:worker) { SidekiqBridge::Sidecar::JobServer.new(settings, listeners: [bind]).tap { |worker| worker.executor.start } }
  let(:server) { Rack::MockRequest.new(worker.app) }
  let(:options) { SidekiqBridge::Sidecar::VersionAdapter.current.options }
  let(:error_handlers) { (SIDEKIQ < Gem::Version.new("6.5")) ? Sidekiq.error_handlers : options[:error_handlers] }
  let(:told) { Queue.new }
  let(:on_death) { ->(job, error) { told << [:death, job, error] } }
  let(:on_error) { handler_of { |error, context| told << [:error, error, context] } }

  before do
    options[:death_handlers] << on_death
    error_handlers << on_error
  end

  after do
    options[:death_handlers].delete(on_death)
    error_handlers.delete(on_error)
    Trace.release && worker.executor.stop(5)
  end

  # Sidekiq 6 calls its handlers with two arguments, 7 and later with three.
  def handler_of(&block) = (SIDEKIQ < Gem::Version.new("7.1.5")) ? ->(error, context) { block.call(error, context) } : ->(error, context, _config) { block.call(error, context) }

  def notice(text = payload, id: "h:1:a/1", error: {"class" => "tasks.Broken", "message" => "no luck"}, **head)
    line = JSON.generate({id: id, format: 1, error: error, **head})
    "#{line}\n#{text}"
  end

  def tell(kind, *notices)
    boot = worker.worker_state.to_h["boot"]
    env = Requests.headers(boot: boot).to_h { |name, value| ["HTTP_#{name.upcase.tr("-", "_")}", value] }
    response = server.post("/jobs/#{kind}", env.merge(input: notices.map { |text| "#{text.bytesize}\n#{text}" }.join))
    [response.status, JSON.parse(response.body)]
  end

  def heard = Array.new(told.size) { told.pop }

  it "runs the class's hook, then the death handlers, with the job as it is buried" do
    fields = {"error_message" => "no luck", "error_class" => "tasks.Broken", "retry_count" => 3}

    found = tell("death", notice(payload("class" => "HookedJob"), death: "exhausted", fields: fields))

    expect(found).to eq([200, {"notices" => [{"id" => "h:1:a/1", "status" => "told"}]}])
    expect(Trace.entries).to eq([[:exhausted, 3], [:death, "HookedJob", "no luck"]])
    kind, job, error = heard.fetch(0)
    expect([kind, job]).to eq([:death, JSON.parse(payload("class" => "HookedJob")).merge(fields)])
    expect([error.class.name, error.message, error.is_a?(SidekiqBridge::PythonError)]).to eq(["tasks.Broken", "no luck", true])
  end

  it "runs the death handlers alone for a job that was killed, as DeadSet#kill does" do
    killed = {"class" => "RuntimeError", "message" => "Job killed by API"}

    tell("death", notice(payload("class" => "HookedJob"), death: "killed", error: killed))

    expect(Trace.entries).to eq([[:death, "HookedJob", "Job killed by API"]])
    expect(heard.map { |kind, _, error| [kind, error.class, error.message] }).to eq([[:death, RuntimeError, "Job killed by API"]])
  end

  it "runs them once for each notice, however often a worker asks" do
    2.times { expect(tell("death", notice(death: "killed"))).to match([200, {"notices" => [include("status" => "told")]}]) }
    tell("death", notice(id: "h:1:a/2", death: "killed"))
    expect(heard.size).to eq(2)
  end

  it "runs the error handlers with the context that this Sidekiq's processor gives" do
    tell("error", notice(errors: "failed", fields: {"error_class" => "tasks.Broken"}))

    _, error, context = heard.fetch(0)
    expect(error.message).to eq("no luck")
    expect(context.slice(:context, :job)).to eq(context: "Job raised exception", job: JSON.parse(payload))
    expect(context.key?(:jobstr)).to be(SIDEKIQ < Gem::Version.new("7"))
  end

  it "gives the error handlers the parser's own exception for malformed JSON" do
    tell("error", notice("{oops", errors: "malformed"))

    _, error, context = heard.fetch(0)
    expect(error).to be_a(JSON::ParserError)
    expect(context.slice(:context, :jobstr, :job)).to eq(context: "Invalid JSON for job", jobstr: "{oops")
  end

  it "tells the death handlers of a class that Ruby does not have, and never looks up one that it must not run" do
    tell("death", notice(payload("class" => "OnlyInPython"), id: "1", death: "exhausted"), notice(payload("class" => "File"), id: "2", death: "exhausted"))
    expect(heard.map { |_, job, _| job["class"] }).to eq(%w[OnlyInPython File])
  end

  it "goes on after a handler that raises or kills its thread" do
    bad = ->(job, _error) { (job["args"] == ["kill"]) ? Thread.current.kill : raise("broken") }
    options[:death_handlers].unshift(bad)

    found = tell("death", notice(id: "1", death: "killed"), notice(payload("args" => ["kill"]), id: "2", death: "killed"))
    found = tell("death", notice(payload("args" => ["kill"]), id: "2", death: "killed")) if found.last["notices"].size < 2

    expect(found.last["notices"].last).to include("id" => "2", "status" => "told")
    expect(heard.map(&:first)).to eq(%i[error death]) # the broken handler's own error, then the other handler
  ensure
    options[:death_handlers].delete(bad)
  end

  it "says which class's hook keeps a job out of the dead set", sidekiq: ">= 7" do
    stub_const("DiscardingJob", Class.new { include JobModule }.tap { |klass| klass.sidekiq_retries_exhausted { :discard } })
    found = tell("death", notice(payload("class" => "DiscardingJob"), death: "exhausted"))
    expect(found.last["notices"]).to eq(["id" => "h:1:a/1", "status" => "told", "discard" => true])
  end

  it "runs handlers on a slot's thread, inside the app's reloader" do
    was, inside = options[:reloader], []
    options[:reloader] = proc { |&block| inside << :in && block.call && inside << :out }
    tell("death", notice(death: "killed"))
    expect(inside).to eq(%i[in out])
  ensure
    options[:reloader] = was
  end

  it "answers running while all slots are busy, and told when they ran" do
    stub_const("SidekiqBridge::Sidecar::Notices::WAIT_SECONDS", 0.2)
    2.times { |index| deliver_to(index) }

    expect(tell("death", notice(death: "killed")).last).to eq("notices" => [{"id" => "h:1:a/1", "status" => "running"}])
    expect(heard).to eq([])
    Trace.release
    wait_until("the handlers") { tell("death", notice(death: "killed")).last["notices"].first["status"] == "told" }
    expect(heard.size).to eq(1)
  end

  def deliver_to(index)
    job = job(payload("class" => "WaitingJob", "jid" => index.to_s))
    delivery = SidekiqBridge::Sidecar::Delivery.new("h:1:b", index, job, 1)
    worker.executor.submit(delivery, job)
  end

  it "refuses what is not a notice" do
    expect(tell("death", "nonsense")).to match([400, include("code" => "protocol")])
    expect(tell("death", %({"id":"x"}\n{}))).to match([400, include("code" => "protocol")])
  end

  it "refuses when the sidecar goes down" do
    worker.drain
    expect(tell("death", notice(death: "killed"))).to match([503, include("code" => "draining")])
  end
end
