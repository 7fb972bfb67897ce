# frozen_string_literal: true

require_relative "spec_helper"
require "open3"
require "sidekiq_bridge/sidecar/sidekiq/throttling"

# A process of its own: the stub gem stays in front of Sidekiq's classes for good.
RSpec.describe SidekiqBridge::Sidecar::Throttling do
  let(:app) { File.expand_path("../../tests/support/ruby/limiting_gems.rb", __dir__) }

  def run(code)
    ENV["TEST_LEDGER"] = File::NULL
    script = <<~RUBY
      require "sidekiq_bridge/sidecar/boot/app_loader"
      require "sidekiq_bridge/sidecar/settings"
      SidekiqBridge::Sidecar::AppLoader.new(SidekiqBridge::Sidecar::Settings.new({app: #{app.inspect}, threads: 3, environment: "test"})).call
      Job, Throttling = SidekiqBridge::Sidecar::Job, SidekiqBridge::Sidecar::Throttling
      require "sidekiq_bridge/sidecar/sidekiq/job"
      def asked(name, jid) = Throttling.outcome(Job.new(Sidekiq.dump_json("class" => name, "jid" => jid, "args" => [0]), "default"))&.to_json_for("h:1:a/1", jid, 0)
      #{code}
    RUBY
    out, status = Open3.capture2e("ruby", "-I", File.expand_path("../lib", __dir__), "-e", script)
    expect(status).to be_success, out
    out.lines.last
  end

  before { RedisServer.flush }

  it "lets jobs within the limit run, and tells of one beyond it where the gem would put it" do
    expect(run('p [asked("ThrottledJob", "a"), asked("ThrottledJob", "b"), asked("ThrottledJob", "c")]'))
      .to include('[nil, nil, "{\"status\":\"postponed\",\"jid\":\"c\",').and include('\"queue\":\"default\"}')
  end
end
