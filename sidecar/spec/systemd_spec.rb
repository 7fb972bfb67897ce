# frozen_string_literal: true

require_relative "spec_helper"

# The test takes systemd's place at the other end of NOTIFY_SOCKET.
RSpec.describe "A sidecar under a service manager" do
  let(:directory) { Dir.mktmpdir("sidecar-notify-") }
  let(:address) { File.join(directory, "notify") }
  let(:manager) { Socket.new(:UNIX, :DGRAM).tap { |socket| socket.bind(Addrinfo.unix(address)) } }
  let(:app) { SETTINGS.app }

  before { manager }

  after do
    manager.close
    FileUtils.remove_entry(directory)
  end

  def env(**more) = {"NOTIFY_SOCKET" => address, "TRACE_FILE" => File.join(directory, "trace"), **more.transform_keys(&:to_s)}

  def heard(seconds)
    raise "nothing was said in #{seconds} s" unless manager.wait_readable(seconds)
    manager.recv(1000)
  end

  [[], %w[--workers 2]].each do |arguments|
    it "says when it is ready, that it lives, and when it goes #{arguments.join(" ")}" do
      SidecarProcess.run(app, *arguments, env: env(WATCHDOG_USEC: "1000000")) do |sidecar|
        expect(heard(20)).to eq("READY=1")
        expect(Array.new(3) { heard(5) }).to eq(["WATCHDOG=1"] * 3)
        sidecar.signal("TERM")
        expect(sidecar.wait_for_exit).to eq(0)
        said = []
        said << heard(1) while manager.wait_readable(0)
        expect(said.reject { |line| line == "WATCHDOG=1" }).to eq(["STOPPING=1"])
      end
    end
  end

  it "gives no sign of life while every Puma worker hangs, and again when one goes on" do
    SidecarProcess.run(app, "--workers", "2", env: env(WATCHDOG_USEC: "1000000")) do |sidecar|
      expect(heard(20)).to eq("READY=1")
      workers = wait_until { sidecar.health["workers"].then { |list| list if list.size == 2 } }.map { |worker| worker["pid"] }
      Process.kill("STOP", workers[0])
      expect(Array.new(14) { heard(5) }.uniq).to eq(["WATCHDOG=1"])
      Process.kill("STOP", workers[1])
      wait_until("silence", seconds: 60) { silent?(2) }
      workers.each { |pid| Process.kill("CONT", pid) }
      expect(heard(10)).to eq("WATCHDOG=1")
    end
  end

  def silent?(seconds)
    return true unless manager.wait_readable(seconds)
    manager.recv(1000)
    false
  end

  it "says nothing without NOTIFY_SOCKET" do
    SidecarProcess.run(app, env: {}) { |sidecar| expect(sidecar.request(:get, "/health/ready").code).to eq("200") }
    expect(manager.wait_readable(0)).to be_nil
  end
end
