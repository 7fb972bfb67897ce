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
end
