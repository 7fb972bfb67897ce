# frozen_string_literal: true

require_relative "spec_helper"

# One job whose outcome JSON refuses looked like an outage of the sidecar: a 500 three times, an open breaker for all
# other jobs, and a burial as poison after its first failure. Public report: sidekiq#5806.
RSpec.describe "Outcomes that JSON refuses" do
  Hostile = Class.new do
    def to_s = raise(SystemExit)
    alias_method :to_json, :to_s
    alias_method :inspect, :to_s
  end
  Garbled = Class.new { def to_json(*) = "{not json" }

  def self.circle
    [].tap { |array| 2.times { array << array } }
  end

  def self.deep = 200.times.reduce([]) { |inner, _| [inner] }

  VALUES = {
    "binary" => "\xff\xfe".b,
    "broken UTF-8" => "ok \xff",
    "another encoding" => "\xfc".dup.force_encoding(Encoding::ISO_8859_1),
    "UTF-16" => "text".encode(Encoding::UTF_16LE),
    "NaN" => Float::NAN,
    "infinity" => -Float::INFINITY,
    "a huge integer" => 10**5000,
    "an object" => Object.new,
    "a class" => Comparable,
    "a time" => Time.at(0).utc,
    "a hostile object" => Hostile.new,
    "a garbled object" => Garbled.new,
    "a structure that contains itself" => circle,
    "a deep structure" => deep,
    "odd keys" => {nil => 1, 2 => {"\xff" => [Float::NAN, {}]}}
  }.freeze

  class OddFieldJob
    include JobModule

    # Sidekiq hands over the hash from 7.0.8 on.
    sidekiq_retry_in do |_count, _error, hash|
      hash["odd"] = VALUES.fetch(hash["args"].first) if hash
      100
    end
    sidekiq_retries_exhausted { |hash, _error| hash["odd"] = VALUES.fetch(hash["args"].first) }

    def perform(name) = raise(ArgumentError, name)
  end

  class RenamingJob
    include JobModule

    sidekiq_retries_exhausted { |hash, _error| hash.update(class: "Other", args: [1], "jid" => "x", 5 => 6) }

    def perform = raise(ArgumentError)
  end

  class NamedError < StandardError
    class << self
      attr_accessor :odd_name
    end
    def self.name = odd_name
  end

  class MisnamedJob
    include JobModule

    def perform(name)
      NamedError.odd_name = {"binary" => "\xff".b, "number" => 5, "none" => nil}.fetch(name)
      raise NamedError, "\xff".b
    end
  end

  before { RedisServer.flush }

  VALUES.each_key do |name|
    it "keeps a job whose retry_in leaves #{name}" do
      decision = outcome_of("class" => "OddFieldJob", "args" => [name]).fetch("next")
      expect(decision).to include("place" => "retry", "delay" => be_between(100, 110))
      expect(decision.dig("fields", "odd")).not_to be_nil if SIDEKIQ >= Gem::Version.new("7.0.8")
    end

    it "buries a job whose retries_exhausted leaves #{name}" do
      decision = outcome_of("class" => "OddFieldJob", "args" => [name], "retry" => 0).fetch("next")
      expect(decision).to include("place" => "dead", "fields" => include("error_message" => name, "odd" => be))
    end
  end

  it "keeps the readable part of each value" do
    odd = ->(name) { outcome_of("class" => "OddFieldJob", "args" => [name], "retry" => 0).dig("next", "fields", "odd") }
    expect(odd.call("another encoding")).to eq("ü")
    expect(odd.call("broken UTF-8")).to eq("ok \uFFFD")
    expect(odd.call("UTF-16")).to eq("text")
    expect(odd.call("NaN")).to eq("NaN")
    expect(odd.call("a class")).to eq("Comparable")
    expect(odd.call("odd keys")).to eq("" => 1, "2" => {"\uFFFD" => ["NaN", {}]})
  end

  it "lets no hook change what identifies the job, under symbols either" do
    fields = outcome_of("class" => "RenamingJob", "retry" => 0).dig("next", "fields")
    expect(fields.keys & %w[class args jid wrapped]).to eq([])
    expect(fields).to include("5" => 6)
  end

  %w[binary number none].each do |name|
    it "tells of an error whose class has an odd name: #{name}" do
      expect(outcome_of("class" => "MisnamedJob", "args" => [name])).to include("status" => "failed", "error" => include("class" => be_a(String)))
    end
  end
end
