# frozen_string_literal: true

require_relative "spec_helper"
require "tmpdir"
require "sidekiq_bridge/sidecar/boot/sidekiq_yaml"
require "sidekiq_bridge/sidecar/settings"

RSpec.describe SidekiqBridge::Sidecar::SidekiqYaml do
  around { |example| Dir.mktmpdir { |dir| (@file = File.join(dir, "sidekiq.yml")) && example.run } }

  def options(config = @file, **more)
    settings = SidekiqBridge::Sidecar::Settings.new({app: "x.rb", config: config, environment: "production"})
    {}.tap { |found| described_class.new(settings).apply(found, **more) }
  end

  it "takes what says how jobs are treated, with the section of the environment" do
    File.write(@file, ":max_retries: 7\n:concurrency: 3\nproduction:\n  :max_retries: <%= 4 + 5 %>\n")

    expect(options).to eq(max_retries: 9)
  end

  # Sidekiq ignores such a key without a word; the app may read it.
  it "names keys that neither Sidekiq nor a gem reads, and the likely one" do
    File.write(@file, ":max_retrys: 7\n:dead_max_jobs: 3\n:schedule: {}\n:own: 1\nstaging:\n  :max_retries: 9\n")
    lines = []
    allow(Sidekiq.logger).to receive(:warn) { |&line| lines << line.call }

    expect(options(known: SidekiqBridge::Sidecar::VersionAdapter.current.known_options)).to include(max_retrys: 7, own: 1)

    expect(described_class.unknown).to eq(%w[max_retrys own])
    expect(lines).to match([/sidekiq\.yml: Sidekiq has no option max_retrys, write max_retries; .*if your app reads it/, /no option own; /])
  ensure
    described_class.unknown = []
  end

  # A symbol in brackets is no YAML to Psych: the sidecar ended with a page of backtrace.
  it "says which file is wrong, and where" do
    File.write(@file, ":queues:\n  - [:critical, 1]\n")

    expect { options }.to raise_error(SidekiqBridge::Sidecar::StartError, /sidekiq\.yml is not YAML .* line 2.*correct it/m)
  end

  it "says which file is not there" do
    expect { options("/nowhere.yml") }.to raise_error(SidekiqBridge::Sidecar::StartError, %r{cannot read /nowhere\.yml})
  end
end
