# frozen_string_literal: true

require_relative "spec_helper"

# Sidekiq makes its fetcher, its processors and their middleware after :startup, so an app may set all of these there.
RSpec.describe "What an app sets late, or for another process" do
  let(:directory) { Dir.mktmpdir("sidecar-trace-") }
  let(:env) { {"TRACE_FILE" => File.join(directory, "trace")} }

  after { FileUtils.remove_entry(directory) }

  def trace = File.readlines(env["TRACE_FILE"]).map { |line| JSON.parse(line) }

  def run(*options, &block) = SidecarProcess.run(File.join(FIXTURES, "late.rb"), *options, env: env, &block)

  # A capsule's copy of the chain was made before :startup, and Sidekiq 7 runs the copy.
  it "runs server middleware that the app adds at :startup" do
    run { |sidecar| expect(sidecar.execute(payload)).to match([200, include("status" => "done")]) }
    expect(trace).to include(["late", anything])
  end

  it "reports middleware and a fetcher that the app sets at :startup, in each process" do
    [[], %w[--workers 2]].each do |options|
      run(*options) do |sidecar|
        expect(sidecar.health).to include("fetch" => "LateFetch", "server_middleware" => include("LateMiddleware"), "hooks" => include("startup" => 2))
      end
    end
  end

  it "runs the middleware of a capsule for jobs of its queues alone", sidekiq: [">= 7", "< 8.1"] do
    run do |sidecar|
      sidecar.execute(payload("jid" => "1"), queue: "serial")
      sidecar.execute(payload("jid" => "2"), queue: "default")
    end
    expect(trace.select { |name, _| name == "capsule" }).to eq([["capsule", "1"]])
  end

  it "says of each option for a process that the sidecar does not run that it has no effect, and of no other" do
    run do |sidecar|
      said = sidecar.log.scan(/Sidekiq's option (\w+) to (\S+),/)
      expect(said.map(&:first)).to eq(%w[concurrency timeout labels])
      expect(said.first(2)).to eq([%w[concurrency 1], %w[timeout 99]])
      expect(sidecar.health["patches"]).to include("Sidekiq::Scheduled::Enq: OwnEnqueuer")
    end
    SidecarProcess.run(File.join(FIXTURES, "jobs.rb"), env: env) { |sidecar| expect(sidecar.log).not_to include("Sidekiq's option") }
  end
end
