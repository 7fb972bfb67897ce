# frozen_string_literal: true

require_relative "spec_helper"
require "sidekiq_bridge/sidecar/sidekiq/checkpoint_gems"

RSpec.describe "A job that knows checkpoints" do
  launcher = SidekiqBridge::Sidecar::Launcher

  let(:executor) { new_executor(slots: 4) }

  # Steps until the launcher says stop, in a job that is told apart by its jid.
  before(:context) do
    stub_const = Class.new do
      include JobModule

      def self.name = "AskingJob"

      def perform(way = "thread")
        Trace.add([jid, :started])
        sleep 0.002 until stopping_by(way)
        Trace.add([jid, :stopped])
      end

      def stopping_by(way)
        return Fiber.new { Sidekiq::CLI.instance.launcher.stopping? }.resume if way == "fiber"
        Sidekiq::CLI.instance.launcher.stopping?
      end
    end
    Object.const_set(:AskingJob, stub_const)
  end

  before do
    @before = Sidekiq::CLI.instance.launcher
    launcher.install(launcher.new(draining: executor.method(:draining?), drain: executor.method(:drain)))
  end

  after do
    executor.drain
    executor.stop(5)
    launcher.install(@before)
  end

  def asking(worker, jid, *args)
    deliver(executor, "class" => "AskingJob", "jid" => jid, "args" => args, :id => "#{worker}/1#{jid}").tap do
      wait_until("the job to start") { Trace.include?([jid, :started]) }
    end
  end

  it "is asked when its worker stops, and jobs of other workers go on" do
    ours = [asking("h:1:a", "1"), asking("h:1:a", "2", "fiber")]
    theirs = asking("h:2:b", "3")

    expect(executor.quiet_worker("h:1:a")).to eq(2)

    expect(ours.map { |delivery| delivery.wait(5)&.status }).to eq(%w[done done])
    expect(theirs.wait(0.1)).to be_nil
    expect(launcher.stopping?).to be(false)
  end

  # A job may be on its way to the sidecar when its worker stops.
  it "is asked when it begins after that" do
    executor.quiet_worker("h:1:a")
    expect(asking("h:1:a", "1").wait(5)&.status).to eq("done")
  end

  it "is asked when the sidecar drains, whichever its worker is" do
    all = [asking("h:1:a", "1"), asking("h:2:b", "2")]
    executor.drain
    expect(all.map { |delivery| delivery.wait(5)&.status }).to eq(%w[done done])
    expect(launcher.stopping?).to be(true)
  end

  # The worker counted such a job as one that stopped unasked, and buried it the third time.
  it "may raise Sidekiq::Shutdown by itself once it is asked" do
    executor.quiet_worker("h:1:a")
    delivery = deliver(executor, "class" => "ShutdownJob", "jid" => "9", :id => "h:1:a/9")
    expect(JSON.parse(delivery.tap { |one| one.wait(5) }.outcome_json)).to include("status" => "shutdown").and(satisfy { |found| !found.key?("asked") })
  end

  it "knows only so many workers that stop" do
    stub_const("SidekiqBridge::Sidecar::Executor::MOST_QUIET_WORKERS", 2)
    %w[a b c].each { |name| executor.quiet_worker("h:1:#{name}") }
    expect(executor.instance_variable_get(:@quiet_workers).keys).to eq(%w[h:1:b h:1:c])
  end

  it "finds CLI, configuration and environment as in Sidekiq's process" do
    cli = Sidekiq::CLI.instance
    expect(cli.environment).to eq("test")
    expect(cli.config).to be(SidekiqBridge::Sidecar::VersionAdapter.current.options) if cli.respond_to?(:config)
  end
end
