# frozen_string_literal: true

require_relative "spec_helper"

RSpec.describe "What a sidecar of several processes does once" do
  let(:directory) { Dir.mktmpdir("sidecar-trace-") }
  let(:port) { TCPServer.open("127.0.0.1", 0) { |server| server.addr[1] } }
  let(:env) { {"TRACE_FILE" => File.join(directory, "trace"), "SIDEKIQ_ALIVE_PORT" => port.to_s, "HOSTNAME" => "here"} }
  let(:app) { File.join(FIXTURES, "alive.rb") }

  before { RedisServer.flush }

  after { FileUtils.remove_entry(directory) }

  def trace = File.exist?(env["TRACE_FILE"]) ? File.readlines(env["TRACE_FILE"]).map { |line| JSON.parse(line) } : []

  # The pid of the process whose server answers that the key is there; nil while there is none.
  def server_pid
    reply = Net::HTTP.start("127.0.0.1", port) { |http| http.get("/") }
    Integer(reply["x-pid"]) if reply.code == "200"
  rescue SystemCallError, EOFError
    nil
  end

  def pids(sidecar) = sidecar.health["workers"].map { |worker| worker["pid"] }

  def heartbeats = trace.select { |event, _| event == "heartbeat" }.map(&:last)

  def run_sidecar(*options)
    SidecarProcess.run(app, *options, env: env) do |sidecar|
      wait_until { pids(sidecar).size == options.last.to_i }
      yield sidecar
    end
  end

  it "beats and serves a port in one of them, and in another one when that one dies" do
    run_sidecar("--workers", "3") do |sidecar|
      first = wait_until { server_pid }
      expect(pids(sidecar)).to include(first)
      expect(sidecar.log.scan("sidekiq_alive serves").size).to eq(1)
      wait_until { heartbeats.any? }
      expect(heartbeats).to eq([first])

      Process.kill("KILL", first)
      second = wait_until(seconds: 15) { server_pid.then { |pid| pid unless pid == first } }

      wait_until { heartbeats.include?(second) }
      expect(heartbeats).to eq([first, second])
      expect(trace.select { |event, _| event == "beat" }.map(&:last)).to eq(heartbeats) if SIDEKIQ >= Gem::Version.new("7")
    end
  end

  # The schedule ended when the process with the index 0 was replaced: the new one has another index.
  it "goes on in a new process after a rolling restart" do
    run_sidecar("--workers", "2") do |sidecar|
      before = pids(sidecar)
      wait_until { server_pid }
      sidecar.signal("HUP")
      wait_until(seconds: 60) { sidecar.log.include?("Rolling restart finished") }

      after = wait_until(seconds: 15) { server_pid }
      expect(before).not_to include(after)
      expect(pids(sidecar)).to include(after)
      expect(heartbeats.last).to eq(after)
    end
  end

  it "ends when the sidecar stops" do
    run_sidecar("--workers", "2") do |sidecar|
      wait_until { server_pid }
      sidecar.signal("TERM")
      expect(sidecar.wait_for_exit).to eq(0)
      expect(server_pid).to be_nil
    end
  end

  it "is the only process's in a sidecar of one" do
    run_sidecar("--workers", "1") do |sidecar|
      expect(wait_until { server_pid }).to eq(sidecar.pid)
      wait_until { heartbeats == [sidecar.pid] }
      sidecar.signal("TERM")
      expect(sidecar.wait_for_exit).to eq(0)
    end
  end
end
