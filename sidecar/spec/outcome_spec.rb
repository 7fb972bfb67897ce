# frozen_string_literal: true

require_relative "spec_helper"

RSpec.describe SidekiqBridge::Sidecar::Outcome do
  def generated(outcome, extra, id, jid)
    JSON.generate({"status" => outcome.status, "jid" => jid, "delivery" => id, "duration_ms" => 0.125, **extra})
  end

  it "writes the JSON that a generator would write, whatever is in it" do
    outcomes = {described_class.done => {}, described_class.interrupted("{\"a\":1}") => {"payload" => "{\"a\":1}"}}
    jids = ["0123456789abcdef01234567", nil, 7, "", "a\"b\\c\n", "ü\u2028", "a b", ["x"], {"a" => nil}]
    outcomes.to_a.product(jids, ["h:1:a/1", "h\"\\:1/1"]).each do |(outcome, extra), jid, id|
      expect(outcome.to_json_for(id, jid, 0.125)).to eq(generated(outcome, extra, id, jid))
    end
  end

  it "writes a jid or a message that JSON refuses, too" do
    outcome = described_class.refused("not \xff UTF-8")
    expect(JSON.parse(outcome.to_json_for("h:1:a/1", "\xed\xa0\x80", 0.1))).to include("jid" => "\uFFFD" * 3, "message" => "not \uFFFD UTF-8")
  end

  # The records of failed jobs took three times the memory of others: the hashes of their answers stayed.
  it "keeps one text of a failed job, and gives the same answer again" do
    outcome = described_class.failed("Boom", "no", {"place" => "retry", "delay" => 1, "fields" => {"retry_count" => 0}})

    answers = Array.new(2) { outcome.to_json_for("h:1:a/1", "jid", 0.125) }

    expect(answers.uniq.map { |text| JSON.parse(text)["next"]["fields"] }).to eq([{"retry_count" => 0}])
    expect(outcome.instance_variable_get(:@extra)).to be_a(String)
  end
end
