# frozen_string_literal: true

require_relative "spec_helper"
require "support/stream_client"

# A child had the traps, the sockets and the slot of its parent: TERM to the child did nothing or stopped the sidecar, its
# SystemExit became the outcome of the job, and its copies of the sockets kept the port and the streams open.
RSpec.describe "A child that a job forks" do
  let(:directory) { Dir.mktmpdir("sidecar-trace-") }
  let(:env) { {"TRACE_FILE" => File.join(directory, "trace"), "RELEASE_FILE" => File.join(directory, "release")} }

  after { FileUtils.remove_entry(directory) }

  def trace = File.exist?(env["TRACE_FILE"]) ? File.readlines(env["TRACE_FILE"]).map { |line| JSON.parse(line) } : []

  def run_sidecar(*options, **more, &block) = SidecarProcess.run(SETTINGS.app, *options, env: env, **more, &block)

  def forking(how, **more) = payload("class" => "ForkingJob", "args" => [how], "jid" => how, **more)

  def ends = trace.select { |event, _| event == "ended" }.to_h { |_, how, *found| [how, found] }

  [[], %w[--workers 2]].each do |options|
    it "ends by its own signals and status, and the sidecar runs its jobs on #{options.join(" ")}" do
      run_sidecar(*options) do |sidecar|
        target = sidecar.health["workers"].first.then { |worker| {boot: worker["boot"], socket: worker["url"].delete_prefix("unix://")} }
        {"signalled" => [15, nil], "interrupted" => [2, nil], "exits" => [nil, 3], "returns" => [nil, 0], "raises" => [nil, 1],
         "threads" => [nil, 0], "at_exits" => [nil, 4]}.each do |how, expected|
          expect(sidecar.execute(forking(how), **target)).to match([200, include("status" => "done")])
          expect([how, ends[how]]).to eq([how, expected])
        end
        expect(trace.count(["at_exit"])).to eq(1)
        expect(trace.flatten).not_to include("death", "error")
        expect(sidecar.health["status"]).to eq("ready")
        expect(sidecar.execute(payload("jid" => "after"), **target)).to match([200, include("status" => "done")])
      end
    end
  end

  it "writes nothing to the streams of its parent" do
    run_sidecar do |sidecar|
      stream = StreamClient.unix(sidecar.path, boot: sidecar.boot)
      %w[exits returns raises threads].each do |how|
        expect(stream.execute(forking(how))).to match([200, include("status" => "done", "jid" => how)])
      end
      expect(stream.execute(payload("jid" => "after"))).to match([200, include("status" => "done", "jid" => "after")])
      stream.close
    end
  end

  it "keeps no port and no stream when the sidecar is gone" do
    port = TCPServer.open("127.0.0.1", 0) { |server| server.addr[1] }
    run_sidecar("--metrics-bind", "tcp://127.0.0.1:#{port}") do |sidecar|
      stream = StreamClient.unix(sidecar.path, boot: sidecar.boot)
      expect(stream.execute(forking("left"))).to match([200, include("status" => "done")])
      child = ends["left"].first

      sidecar.signal("KILL")
      wait_until { sidecar.exited? }

      expect { Process.kill(0, child) }.not_to raise_error
      expect(stream).to be_ended
      expect { TCPSocket.new("127.0.0.1", port).close }.to raise_error(Errno::ECONNREFUSED)
      TCPServer.new("127.0.0.1", port).close
    ensure
      Process.kill("KILL", child) if child
    end
  end
end
