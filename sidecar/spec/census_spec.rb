# frozen_string_literal: true

require_relative "spec_helper"

RSpec.describe "The census of gems and hooks in /health" do
  def health(gems: [], patch: nil, options: [])
    env = {"GEMS" => gems.join(","), "PATCH" => patch}
    SidecarProcess.run(File.join(FIXTURES, "gems.rb"), *options, env: env, &:health)
  end

  it "names the app's own middleware, hooks and death handlers, and nothing of Sidekiq's" do
    found = health
    expect(found).to include("gems" => {}, "fetch" => nil, "patches" => [], "server_middleware" => ["AppServerMiddleware"], "death_handlers" => 1)
    expect(found["hooks"]).to include("startup" => 1, "quiet" => 2, "shutdown" => 0)
  end

  # Sidekiq forgets a hook that it has run, and each process is a fork.
  it "is the same in a sidecar of two processes" do
    expect(health(options: %w[--workers 2])["hooks"]).to include("startup" => 1, "quiet" => 2)
  end

  it "names a known gem with its version, and what it prepends" do
    found = health(gems: %w[sidekiq-throttled sidekiq-limit_fetch sidekiq-unique-jobs sidekiq-cron])
    expect(found["gems"]).to eq(
      "sidekiq-throttled" => "2.0.0", "sidekiq-limit_fetch" => "4.4.1", "sidekiq-unique-jobs" => "8.0.11", "sidekiq-cron" => ""
    )
    expect(found["patches"]).to eq(["Sidekiq::BasicFetch: Sidekiq::Throttled::Patches::BasicFetch", "Sidekiq::Manager: Sidekiq::LimitFetch::Manager"])
  end

  it "names a fetcher of the app's own" do
    expect(health(gems: %w[own-fetch])["fetch"]).to eq("OwnFetch")
  end

  it "names a module in front of Sidekiq's Manager" do
    expect(health(patch: "prepend")["patches"]).to eq(["Sidekiq::Manager: OwnPatch"])
  end

  it "names a method of Sidekiq's that the app replaces" do
    expect(health(patch: "reopen")["patches"]).to eq(["Sidekiq::BasicFetch#retrieve_work"])
  end

  # const_get would have loaded a gem that the app autoloads, and with it all its hooks.
  it "loads nothing" do
    require "sidekiq_bridge/sidecar/sidekiq/census"
    stub_const("Lazy", Module.new { autoload :Gone, "/nowhere/gone" })
    expect(SidekiqBridge::Sidecar::Census.find("Lazy::Gone")).to be_nil
  end
end
