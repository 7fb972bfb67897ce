# frozen_string_literal: true

require_relative "spec_helper"
require "sidekiq-bridge/moves"

RSpec.describe SidekiqBridge::Moves do
  before { RedisServer.flush }

  def redis(*command) = Sidekiq.redis { |connection| connection.call(*command) }

  def worker_with(*classes)
    redis("SADD", "processes", "h:1:abc")
    redis("HSET", "h:1:abc", "info", JSON.generate("identity" => "h:1:abc", "bridge_python" => classes), "beat", Time.now.to_f.to_s, "busy", "0")
  end

  it "moves a class by the percent, and takes it back" do
    worker_with("ReportJob")
    described_class.percent("::ReportJob", "5")
    expect(described_class.all).to match([have_attributes(job_class: "ReportJob", percent: 5.0, guard: true, back?: false, since: be_within(5).of(Time.now))])
    described_class.back("ReportJob")
    expect(described_class.all).to match([have_attributes(percent: 0.0, back?: true)])
  end

  it "shows both sides, as the workers have counted them" do
    redis("HSET", "bridge:moves", "ReportJob", '{"percent":20,"since_ms":7,"changed_ms":8,"guard":false}')
    redis("HSET", "bridge:moves:runs:7:ReportJob", "python|runs", 3, "python|failures", 1, "python|96", 2, "ruby|runs", 4, "ruby|72", 3, "ruby|96", 1, "shadow|runs", 9, "shadow|differences", 2)
    (row,) = described_class.all
    expect(row).to have_attributes(guard: false, shadow_runs: 9, shadow_differences: 2)
    expect(row.python).to have_attributes(runs: 3, failures: 1, failure_rate: be_within(0.01).of(0.33), p50_ms: be_within(5).of(98))
    expect(row.ruby).to have_attributes(runs: 4, p50_ms: be_within(1).of(10), p95_ms: be_within(5).of(98))
  end

  it "holds a class in Ruby whose field makes no sense, and leaves out a move that has finished" do
    odd = ['{"percent":"x"}', '{"percent":400}', '{"percent":[]}', '{"since_ms":{}}', '{"since_ms":1e400}', '{"shadow":-1}', "[1]", "\xff", "[" * 9999, ""]
    odd.each_with_index { |raw, n| redis("HSET", "bridge:moves", "Odd#{n}", raw) }
    redis("HSET", "bridge:moves", "\xffJob", "{}", "DoneJob", '{"percent":100,"is_finished":true}', "FineJob", '{"percent":"5","since_ms":7}')
    redis("SET", "bridge:moves:runs:7:FineJob", "a key of another type")
    rows = described_class.all
    # The clients of the releases of Sidekiq give the same bytes in different encodings.
    expect(rows.map { |row| row.job_class.b }).to match_array([*odd.each_index.map { |n| "Odd#{n}" }, "\xffJob", "FineJob"].map(&:b))
    expect(rows.select(&:back?)).to all(have_attributes(percent: 0.0, reason: /makes no sense/)).and have_attributes(size: odd.size)
    expect(rows.find { |row| row.job_class == "FineJob" }).to have_attributes(percent: 5.0, python: have_attributes(runs: 0))
  end

  it "begins at zero with a class whose move has finished" do
    worker_with("ReportJob")
    redis("HSET", "bridge:moves", "ReportJob", '{"percent":100,"since_ms":7,"is_finished":true,"guard":false}')
    described_class.percent("ReportJob", 5)
    expect(described_class.all).to match([have_attributes(percent: 5.0, guard: true, since: be_within(5).of(Time.now))])
  end

  it "lists the differences of shadow runs" do
    redis("RPUSH", "bridge:moves:differences:ReportJob", '{"jid":"a","what":"outcome"}', "nonsense")
    expect(described_class.differences("ReportJob")).to eq([{"jid" => "a", "what" => "outcome"}])
  end

  it "refuses what is not a percentage, and a class without a native task" do
    worker_with("OtherJob")
    ["", "x", -1, 101, nil, Float::NAN, []].each { |number| expect { described_class.percent("OtherJob", number) }.to raise_error(described_class::Refused, /0 to 100/) }
    expect { described_class.percent("ReportJob", 5) }.to raise_error(described_class::Refused, /native task for ReportJob/)
    expect(redis("EXISTS", "bridge:moves")).to eq(0)
  end

  it "refuses the second of two changes at the same moment" do
    change = described_class::Change.new("ReportJob")
    allow(change).to receive(:now_in_redis).and_wrap_original do |original|
      redis("HSET", "bridge:moves", "ReportJob", "{}")
      original.call
    end
    expect { change.back }.to raise_error(described_class::Refused, /same moment/)
  end
end
