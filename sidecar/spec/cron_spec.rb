# frozen_string_literal: true

require_relative "spec_helper"

RSpec.describe "Gems for periodic jobs and background tasks" do
  let(:directory) { Dir.mktmpdir("sidecar-trace-") }
  let(:env) { {"TRACE_FILE" => File.join(directory, "trace")} }

  before { RedisServer.flush }

  after { FileUtils.remove_entry(directory) }

  def trace(event) = (File.exist?(env["TRACE_FILE"]) ? File.readlines(env["TRACE_FILE"]).map { |line| JSON.parse(line) } : []).select { |found, _| found == event }

  def run_sidecar(*options, **more, &block)
    SidecarProcess.run(File.join(FIXTURES, "periodic.rb"), *options, env: env.merge(more.transform_keys(&:to_s)), &block)
  end

  it "poll in one process of a sidecar, with the gem's interval, inside the app's executor" do
    run_sidecar("--workers", "3") do
      wait_until { trace("cron").size > 5 }
      expect(trace("cron").map { |_, pid, *| pid }.uniq.size).to eq(1)
      expect(trace("cron").map { |_, _, *rest| rest }.uniq).to eq([[7, true]])
    end
  end

  # The poller was started whatever the gem's configuration said.
  it "do not poll when sidekiq-cron is switched off" do
    run_sidecar(CRON_ENABLED: "false") do |sidecar|
      sidecar.signal("TERM")
      expect(sidecar.wait_for_exit).to eq(0)
      expect([trace("cron"), sidecar.log]).to match([[], satisfy { |log| !log.include?("Polling sidekiq-cron") }])
    end
  end

  it "poll on after a rolling restart" do
    run_sidecar("--workers", "2") do |sidecar|
      wait_until { sidecar.health["workers"].size == 2 && trace("cron").any? }
      sidecar.signal("HUP")
      wait_until { sidecar.log.include?("Rolling restart finished") }
      pids = sidecar.health["workers"].map { |worker| worker["pid"] }
      wait_until { pids.include?(trace("cron").last[1]) }
    end
  end

  it "start and end with sidekiq-scheduler's schedule, inside the app's executor" do
    run_sidecar do |sidecar|
      sidecar.signal("TERM")
      expect(sidecar.wait_for_exit).to eq(0)
      expect(trace("scheduler")).to eq([["scheduler", true, true], ["scheduler", false, true]])
    end
  end

  [[], %w[--workers 2]].each do |options|
    it "push what sidekiq-grouping has kept #{options.join(" ")}" do
      run_sidecar(*options) do |sidecar|
        sidecar.execute(payload("class" => "GroupedPushJob"))
        wait_until { RedisServer.keys.include?("queue:default") }
      end
    end
  end
end
