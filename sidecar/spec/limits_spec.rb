# frozen_string_literal: true

require_relative "spec_helper"
require "sidekiq_bridge/limits"

# tests/unit/test_limit_declarations.py has the same cases: both sides must count under the same keys.
RSpec.describe SidekiqBridge::Limits do
  def key(path, fields) = SidekiqBridge::Limits::KeyPath.new(path).key({"class" => "SyncJob", "args" => [], **fields})

  [
    ["args.0", {"args" => [42]}, "42"],
    ["args.0", {"args" => ["42"]}, "42"],
    ["args.1", {"args" => [42]}, nil],
    ["args.0", {"args" => [nil]}, "null"],
    ["args.0", {"args" => [1.5]}, "1.5"],
    ["args.0", {"args" => [1.0]}, "1"],
    ["args.0", {"args" => [0.1]}, "0.10000000000000001"],
    ["args.0", {"args" => [true]}, "true"],
    ["args.0", {"args" => [2**70]}, (2**70).to_s],
    ["args.0", {"args" => [[1, "a"]]}, "[1,a]"],
    ["args.0", {"args" => [{"b" => 1, "a" => 2}]}, "{a:2,b:1}"],
    ["args.0.shop.id", {"args" => [{"shop" => {"id" => 7}}]}, "7"],
    ["args.0.shop", {"args" => ["none"]}, nil],
    ["args.0", {"args" => ["a\nb"]}, "sha1:#{Digest::SHA1.hexdigest("a\nb")}"],
    ["args.0", {"args" => ["x" * 101]}, "sha1:#{Digest::SHA1.hexdigest("x" * 101)}"],
    ["args.0", {"args" => ["a\xED\xA0\x80"]}, "sha1:#{Digest::SHA1.hexdigest("a\xED\xA0\x80".b)}"],
    ["tenant", {"tenant" => "zoë"}, "zoë"],
    ["tenant.id", {"tenant" => {"id" => 3}}, "3"],
    ["cattr.user_id", {"cattr" => {"user_id" => 9}}, "9"],
    ["cattr.user_id", {"cattr" => {"other" => 1}, "cattr_1" => {"user_id" => 9}}, "9"],
    ["cattr.user_id", {"cattr" => [["user_id", 9]]}, "9"],
    ["cattr.user_id", {"cattr" => [[{"_aj_serialized" => "S", "value" => "user_id"}, 9]]}, "9"],
    ["args.0", {"class" => "Sidekiq::ActiveJob::Wrapper", "wrapped" => "J", "args" => [{"arguments" => [{"_aj_globalid" => "gid://app/User/1"}]}]}, "gid://app/User/1"]
  ].each do |path, fields, text|
    it("counts #{fields.inspect[0, 60]} at #{path} under #{text.inspect[0, 30]}") { expect(key(path, fields)).to eq(text) }
  end

  {
    "SyncJob" => "limits are a list",
    ["SyncJob"] => "limit 1: a limit is an object",
    [{"concurrency" => 3}] => "limit 1: class or queue is missing",
    [{"class" => "SyncJob"}] => "limit 1: concurrency or rate is missing",
    [{"class" => "SyncJob", "concurrency" => 0}] => "concurrency must be a whole number from 1, this is 0",
    [{"class" => "SyncJob", "concurrency" => true}] => "this is true",
    [{"class" => "SyncJob", "concurrency" => "3"}] => 'this is "3"',
    [{"class" => "SyncJob", "rate" => "0/s"}] => "is not a rate",
    [{"class" => "SyncJob", "rate" => 10}] => "10 is not a rate",
    [{"class" => "SyncJob", "rate" => "1/0s"}] => "is not a rate",
    [{"class" => "SyncJob", "rate" => "1/00s"}] => "is not a rate",
    [{"class" => "SyncJob", "rate" => "10/ms"}] => "is not a rate",
    [{"class" => "SyncJob", "concurrency" => 1, "key" => "args"}] => '"args" is not a key path',
    [{"class" => "SyncJob", "concurrency" => 1, "kay" => "args.0"}] => '"kay" is not a field of a limit',
    [{"class" => 5, "concurrency" => 1}] => "class must be a text",
    [{"queue" => "two words", "concurrency" => 1}] => "is not a queue's name",
    [{"class" => "A", "rate" => "1/s"}, {"class" => "A", "concurrency" => 1}] => 'limits 1 and 2 are both called "A"'
  }.each do |value, sentence|
    it("refuses #{value.inspect[0, 70]} in a sentence") do
      expect { described_class::Declarations.new(value) }.to raise_error(ArgumentError, /#{Regexp.escape(sentence)}/)
    end
  end

  # tests/unit/test_limit_declarations.py has the same table.
  {"10/s" => 11, "1/s" => 2, "20/s" => 21, "100/s" => 105, "900/s" => 945, "100/m" => 101, "600/20m" => 601,
   "1/5s" => 0, "25/m" => 26, "24/m" => 0, "1000/s" => 0, "5000/h" => 0}.each do |rate, noted|
    it "notes #{noted} starts of #{rate}" do
      _, interval, (early, found) = described_class::Declarations.new([{"class" => "A", "rate" => rate}]).limits.first.script_args.then { |most, each, last| [most, each, last.split] }
      expect([found.to_i, early.to_f.round(9)]).to eq([noted, [0.05, 0.8 * interval.to_f].max.round(9)])
    end
  end

  {"10/s" => 0.1, "100/m" => 0.6, "1/5s" => 5.0, "3600/hour" => 1.0, "2 / 1 minutes" => 30.0, "1/d" => 86_400.0}.each do |rate, seconds|
    it("reads #{rate} as #{seconds} s between two starts") { expect(described_class::Limit.pace_of(rate).last).to be_within(1e-9).of(seconds) }
  end

  it "names a limit by what it counts" do
    names = [{"class" => "SyncJob", "concurrency" => 3, "key" => "args.0"}, {"queue" => "mailers", "concurrency" => 5}, {"class" => "A::B", "queue" => "low", "rate" => "10/s"}]
    expect(described_class::Declarations.new(names).limits.map(&:name)).to eq(["SyncJob/args.0", "queue=mailers", "A::B,queue=low"])
  end

  it "runs a job without its own limit if that is wrong, and counts jobs without the key together" do
    gates = described_class::Gates.new(described_class::Declarations.new([{"class" => "SyncJob", "concurrency" => 3, "key" => "args.0"}]).limits)
    expect(gates.of({"class" => "OtherJob", "bridge_limit" => {"concurrency" => 0}, "args" => []}, "default")).to eq([])
    expect(gates.of({"class" => "SyncJob", "args" => []}, "default").map(&:line)).to eq(["SyncJob/args.0:(none)"])
    expect(gates.of({"class" => "OwnJob", "args" => [7], "bridge_limit" => {"concurrency" => 1, "key" => "args.0"}}, "default").map(&:line)).to eq(["OwnJob/args.0:7"])
  end

  # A thread that moves a line looks again in a second where nothing takes the job. It heard so behind the start of that job, and the
  # next start came a second late.
  it "puts off no start of a rate for an older answer of Redis" do
    gates = described_class::Gates.new(described_class::Declarations.new([{"class" => "SyncJob", "rate" => "5/s"}]).limits).of({"class" => "SyncJob"}, "default")
    starts = described_class::NextStarts.new
    expect(starts.set(gates, 10.2)).to be(true)
    starts.set(gates, 11.0)
    expect(starts.first).to eq(10.2)
    expect(starts.due(10.1)).to eq([])
    expect(starts.due(10.2).map(&:line)).to eq(["SyncJob:all"])
    expect(starts.first).to be_nil
  end
end
