# frozen_string_literal: true

require_relative "spec_helper"
require "sidekiq_bridge/sidecar/http/listener"
require "sidekiq_bridge/sidecar/http/puma_server"

RSpec.describe SidekiqBridge::Sidecar::PumaServer do
  let(:directory) { Dir.mktmpdir("sidecar-http-") }
  let(:path) { File.join(directory, "s.sock") }
  let(:settings) { SidekiqBridge::Sidecar::Settings.new({app: SETTINGS.app, bind: "unix://#{path}", threads: 1, timeout: 5, environment: "test"}) }
  let(:listener) { SidekiqBridge::Sidecar::Listener.new(settings.address).open }

  after { FileUtils.remove_entry(directory) }

  # They stayed open for 75 s, though no worker uses one again after 10 s, and counted against the connection limit.
  it "closes a connection that rests longer than any worker would use it again" do
    expect(described_class::IDLE_SECONDS).to be_between(11, 15)
    stub_const("#{described_class}::IDLE_SECONDS", 1)
    worker = SidekiqBridge::Sidecar::JobServer.new(settings, listeners: [listener]).tap(&:start)
    client = UNIXSocket.new(path)
    client.write("GET /health/live HTTP/1.1\r\nHost: sidecar\r\n\r\n")
    expect(client.readpartial(4096)).to start_with("HTTP/1.1 200")

    expect(client.wait_readable(20)).to be(client)
    expect(client.read).to eq("").or end_with("}") # the rest of the answer, then the end
  ensure
    client&.close
    worker&.stop
  end
end
