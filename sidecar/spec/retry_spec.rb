# frozen_string_literal: true

require_relative "spec_helper"
require "zlib"

RSpec.describe "Retries, decided by Sidekiq's own rules" do
  def next_of(...) = outcome_of(...).fetch("next")

  def fields_of(...) = next_of(...).fetch("fields")

  def milliseconds? = SIDEKIQ >= Gem::Version.new("8")

  def now = milliseconds? ? (Time.now.to_f * 1000).to_i : Time.now.to_f

  def ago(seconds) = milliseconds? ? now - (seconds * 1000) : now - seconds

  def lines_of(fields) = JSON.parse(Zlib::Inflate.inflate(fields.fetch("error_backtrace").unpack1("m")))

  before { RedisServer.flush }

  after { expect(RedisServer.keys).to eq([]) }

  it "sends a first failure to retry, with the default delay" do
    decision = next_of("class" => "FailingJob", "args" => ["boom"])
    expect(decision).to include("place" => "retry", "delay_source" => "default", "delay" => be_between(15, 24))
    expect(decision["fields"]).to include("retry_count" => 0, "error_class" => "ArgumentError", "error_message" => "boom", "queue" => "default")
    expect(decision["fields"].keys).to eq(%w[queue error_message error_class failed_at retry_count])
  end

  it "writes the time in its version's unit" do
    before = now
    failed_at = fields_of("class" => "FailingJob")["failed_at"]
    expect(failed_at).to be_a(milliseconds? ? Integer : Float).and be_between(before, now)
  end

  it "leaves failed_at alone the second time and sets retried_at" do
    fields = fields_of("class" => "FailingJob", "retry_count" => 0, "failed_at" => ago(60))
    expect(fields).to include("retry_count" => 1, "retried_at" => be_a(Numeric))
    expect(fields).not_to have_key("failed_at")
  end

  it "takes a retry_count of -1, as left by the Web UI, for a count" do
    expect(fields_of("class" => "FailingJob", "retry" => 3, "retry_count" => -1, "failed_at" => ago(60))).to include("retry_count" => 0, "retried_at" => be_a(Numeric))
  end

  it "waits as long as Sidekiq's curve says" do
    [0, 1, 5, 24].each do |count|
      delay = next_of("class" => "FailingJob", "retry_count" => count - 1, "failed_at" => ago(1))["delay"]
      expect(delay).to be_between(count**4 + 15, count**4 + 15 + (10 * (count + 1)))
    end
  end

  it "buries a job whose retries are used up, and tells the death handlers once" do
    decision = next_of("class" => "FailingJob", "retry_count" => 24, "failed_at" => ago(60))
    expect(decision).to include("place" => "dead", "dead_limits" => {"max_jobs" => 10_000, "timeout_seconds" => 15_552_000})
    expect(decision["fields"]).to include("retry_count" => 25)
    expect(Trace.entries.count([:death, "FailingJob", "failed"])).to eq(1)
  end

  it "calls sidekiq_retries_exhausted with the counted message" do
    next_of("class" => "HookedJob", "retry" => 0)
    expect(Trace.entries).to include([:exhausted, 0])
  end

  it "takes retry: 0 for dead at once and retry: false for nowhere at all" do
    expect(next_of("class" => "FailingJob", "retry" => 0)["place"]).to eq("dead")
    expect(next_of("class" => "FailingJob", "retry" => false)).to eq("place" => "none")
    expect(Trace.entries.count([:death, "FailingJob", "failed"])).to eq(2)
  end

  it "stores the class's own option when the payload has none" do
    expect(fields_of("class" => "FailingJob", "retry" => nil)).to include("retry" => true)
    expect(next_of("class" => "NoRetryJob", "retry" => nil)).to eq("place" => "none")
  end

  it "takes a value that is not an integer for the default of 25" do
    expect(next_of("class" => "FailingJob", "retry" => "5", "retry_count" => 10, "failed_at" => ago(9))["place"]).to eq("retry")
    expect(next_of("class" => "FailingJob", "retry" => 2.0, "retry_count" => 10, "failed_at" => ago(9))["place"]).to eq("retry")
  end

  it "moves a retry to its retry_queue" do
    expect(fields_of("class" => "FailingJob", "retry_queue" => "low")).to include("queue" => "low")
  end

  it "keeps a job that is not to be buried out of the dead set, and tells the death handlers" do
    expect(next_of("class" => "FailingJob", "retry" => 0, "dead" => false)["place"]).to eq("none")
    expect(Trace.entries).to include([:death, "FailingJob", "failed"])
  end

  it "retries an unknown class" do
    expect(next_of("class" => "NoSuchJob")).to include("place" => "retry", "fields" => include("error_class" => "NameError"))
  end

  # Sidekiq drops it. Nothing says that this is meant.
  it "buries an unknown class that does not say whether it may be retried, and tells the death handlers once" do
    expect(next_of("class" => "NoSuchJob", "retry" => nil)).to include("place" => "dead", "fields" => include("error_class" => "NameError", "failed_at" => be, "retry_count" => 0))
    expect(Trace.entries.count { |kind, *| kind == :death }).to eq(1)
    expect(next_of("class" => "NoSuchJob", "retry" => false)).to eq("place" => "none")
  end

  describe "retry_for", sidekiq: ">= 7.1.3" do
    it "buries a job whose time is over" do
      expect(next_of("class" => "FailingJob", "retry_for" => 60, "retry_count" => 1, "failed_at" => ago(120))["place"]).to eq("dead")
    end

    it "keeps a job whose time is not over" do
      expect(next_of("class" => "FailingJob", "retry_for" => 3600, "retry_count" => 1, "failed_at" => ago(120))["place"]).to eq("retry")
    end

    it "leaves the count aside from 8.1 on" do
      place = next_of("class" => "FailingJob", "retry_for" => 3600, "retry_count" => 99, "failed_at" => ago(120))["place"]
      expect(place).to eq((SIDEKIQ >= Gem::Version.new("8.1")) ? "retry" : "dead")
    end

    it "does not lose a job whose retry_for makes the retry code itself fail" do
      decision = next_of("class" => "FailingJob", "retry_for" => "soon")
      expect(decision).to include("place" => "dead", "fields" => include("error_class" => "TypeError", "failed_at" => be_a(Numeric)))
    end
  end

  describe "sidekiq_retry_in" do
    it "sets the delay, and says that it did" do
      expect(next_of("class" => "HookedJob", "args" => ["100"])).to include("delay" => be_between(100, 109), "delay_source" => "sidekiq_retry_in")
    end

    it "is told from the curve even where both say the same" do
      expect(next_of("class" => "HookedJob", "args" => ["curve"])["delay_source"]).to eq("sidekiq_retry_in")
    end

    it "falls back to the curve for nil, zero and an error of its own" do
      %w[nothing 0 raise].each do |text|
        expect(next_of("class" => "HookedJob", "args" => [text])).to include("place" => "retry", "delay_source" => "default", "delay" => be_between(15, 24))
      end
    end

    it "may send a job to the dead set or nowhere", sidekiq: ">= 6.5.2" do
      expect(next_of("class" => "HookedJob", "args" => ["kill"])["place"]).to eq("dead")
      expect(Trace.entries).to include([:exhausted, 0])
      expect(next_of("class" => "HookedJob", "args" => ["discard"])["place"]).to eq("none")
    end

    it "knew no :kill in 6.4: the symbol is an error of the retry code, retried as one", sidekiq: "< 6.5" do
      expect(next_of("class" => "HookedJob", "args" => ["kill"])).to include("place" => "retry", "fields" => include("error_class" => "NoMethodError"))
    end

    it "tells the death handlers of a discarded job from 8.0.7 on", sidekiq: ">= 8.0.7" do
      next_of("class" => "HookedJob", "args" => ["discard"])
      expect(Trace.entries).to include([:death, "HookedJob", "discard"])
    end
  end

  describe "what is told of the error" do
    it "is cut at 10,000 characters and always valid" do
      fields = fields_of("class" => "FailingJob", "args" => ["é" * 12_000])
      expect(fields["error_message"].length).to eq(10_000)
    end

    it "has a backtrace when the job wants one" do
      expect(fields_of("class" => "FailingJob")).not_to have_key("error_backtrace")
      expect(lines_of(fields_of("class" => "FailingJob", "backtrace" => 2)).size).to eq(2)
      expect(lines_of(fields_of("class" => "FailingJob", "backtrace" => true)).first).to include("jobs.rb")
    end

    it "goes to the error handlers" do
      outcome_of("class" => "FailingJob")
      expect(Trace.entries).to include([:error, "ArgumentError"])
    end
  end

  it "names only what the retry code set, whatever middleware did to the job" do
    fields = fields_of("class" => "FailingJob", "change" => ["changed"], "foo" => {"bar" => 1}, "tags" => %w[a b])
    expect(fields["error_message"]).to eq("changed")
    expect(fields.keys).not_to include("args", "foo", "tags", "change")
  end
end
