# frozen_string_literal: true

require_relative "spec_helper"
require "support/stream_client"

RSpec.describe "Streams of a sidecar process" do
  let(:directory) { Dir.mktmpdir("sidecar-trace-") }
  let(:env) { {"TRACE_FILE" => File.join(directory, "trace"), "RELEASE_FILE" => File.join(directory, "release")} }

  after { FileUtils.remove_entry(directory) }

  def trace = File.exist?(env["TRACE_FILE"]) ? File.readlines(env["TRACE_FILE"]).map { |line| JSON.parse(line) } : []

  def started(count = 1) = wait_until("#{count} jobs to start") { trace.count("started") == count }

  def release = FileUtils.touch(env["RELEASE_FILE"])

  def run_sidecar(*options, &block) = SidecarProcess.run(SETTINGS.app, *options, env: env, &block)

  def open_stream(sidecar, path: sidecar.path, boot: sidecar.boot) = StreamClient.unix(path, boot: boot)

  it "answer what runs when TERM comes, refuse what is new, and end" do
    run_sidecar do |sidecar|
      stream = open_stream(sidecar)
      idle = open_stream(sidecar)
      running = stream.send_job(payload("class" => "WaitingJob"))
      started
      sidecar.signal("TERM")
      wait_until { sidecar.request(:get, "/health/ready").code == "503" }
      expect(stream.execute(payload("jid" => "2"))).to match([503, include("code" => "draining")])
      expect(idle.execute(payload("jid" => "3"))).to match([503, include("code" => "draining")])
      release
      expect(stream.reply(running)).to match([200, include("status" => "done")])
      expect([stream, idle]).to all(be_ended_in_order)
      [stream, idle].each(&:close)
      expect(sidecar.wait_for_exit).to eq(0)
    end
  end

  it "tell of jobs that outlast the timeout, and of those that hold out even longer" do
    run_sidecar("--timeout", "0") do |sidecar|
      stream = open_stream(sidecar)
      ids = %w[WaitingJob StubbornJob].map { |name| stream.send_job(payload("class" => name, "jid" => name)) }
      started(2)
      sidecar.signal("TERM")
      expect(ids.map { |id| stream.reply(id) }).to all(match([200, include("status" => "shutdown")]))
      expect(stream).to be_ended_in_order
      stream.close
      expect(sidecar.wait_for_exit).to eq(0)
    end
  end

  it "tell of a checkpoint", sidekiq: ">= 7.3" do
    run_sidecar do |sidecar|
      stream = open_stream(sidecar)
      id = stream.send_job(payload("class" => "CountingJob"))
      wait_until { trace.size > 3 }
      sidecar.signal("TERM")
      expect(stream.reply(id)).to match([200, include("status" => "interrupted", "payload" => include("CountingJob"))])
      expect(stream).to be_ended_in_order
    end
  end

  it "lead to one worker each" do
    run_sidecar("--workers", "2") do |sidecar|
      both = wait_until { sidecar.health["workers"].then { |list| list if list.size == 2 } }
      streams = both.map { |worker| open_stream(sidecar, path: worker["url"].delete_prefix("unix://"), boot: worker["boot"]) }
      ids = streams.map.with_index { |stream, index| stream.send_job(payload("class" => "WaitingJob", "jid" => index.to_s)) }
      started(2)
      expect(wait_until { sidecar.health["workers"].then { |list| list if list.sum { |worker| worker["busy"] } == 2 } }.map { |worker| worker["busy"] }).to eq([1, 1])
      sidecar.signal("TERM")
      release
      expect(streams.zip(ids).map { |stream, id| stream.reply(id).last["status"] }).to eq(%w[done done])
      expect(streams).to all(be_ended_in_order)
      streams.each(&:close)
      expect(sidecar.wait_for_exit).to eq(0)
    end
  end

  it "carry jobs while plain requests come and go" do
    run_sidecar("--threads", "10") do |sidecar|
      requests = Array.new(4) do |client|
        Thread.new { Array.new(50) { |index| sidecar.execute(payload("jid" => "#{client} #{index}"), delivery: "h:1:r#{client}/#{index}").first } }
      end
      stream = open_stream(sidecar)
      200.times { |index| expect(stream.execute(payload("jid" => "s#{index}")).first).to eq(200) }
      expect(requests.flat_map(&:value)).to all(eq(200))
    end
  end
end
