# frozen_string_literal: true

require_relative "spec_helper"
require "tmpdir"
require "sidekiq_bridge/sidecar/http/listener"

RSpec.describe SidekiqBridge::Sidecar::Listener do
  def bind(path) = SidekiqBridge::Sidecar::Bind.parse("unix://#{path}")

  # `--bind unix:///srv/app/log/production.log` deleted the log.
  it "leaves a file that is not a socket as it is, and says so" do
    Dir.mktmpdir do |directory|
      file = File.join(directory, "production.log").tap { |path| File.write(path, "lines") }
      link = File.join(directory, "link").tap { |path| File.symlink(file, path) }

      [file, link].each do |path|
        expect { described_class.new(bind(path)).open }.to raise_error(SidekiqBridge::Sidecar::StartError, /is not a socket/)
        described_class.remove(bind(path))
      end

      expect([File.read(file), File.symlink?(link)]).to eq(["lines", true])
    end
  end

  it "replaces the socket file of a server that is gone" do
    Dir.mktmpdir do |directory|
      path = File.join(directory, "s.sock")
      UNIXServer.new(path).close

      described_class.new(bind(path)).open.close

      expect(File.exist?(path)).to be(false)
    end
  end
end
