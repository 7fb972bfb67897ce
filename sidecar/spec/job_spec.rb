# frozen_string_literal: true

require_relative "spec_helper"
require "sidekiq_bridge/sidecar/sidekiq/job"

RSpec.describe SidekiqBridge::Sidecar::Job do
  def payload(order = nil, **more)
    fields = {"retry" => true, "queue" => "default", "class" => "A", "args" => ["é" * 3000], "jid" => "j1", "created_at" => 1.5, "enqueued_at" => 2.5}
    fields.update(more.transform_keys(&:to_s))
    JSON.generate(order ? fields.slice(*order) : fields)
  end

  def lineage(text) = described_class.new(text.dup).lineage

  {"small" => ["a"], "large" => [*[{}] * 5, "é" * 3000, {"a" => [1], "jid" => "j1", "args" => []}]}.each do |size, args|
    describe "the lineage of a #{size} payload" do
      first = {args: args}

      it "is the same for each attempt" do
        attempts = [{}, {enqueued_at: 9.5}, {queue: "low"}, {retry_count: 1, error_message: "\"args\":[] ]\"jid\":\"j1\""}]
        expect(attempts.map { |more| lineage(payload(**first, **more)) }.uniq.size).to eq(1)
      end

      it "differs between jobs that share a jid" do
        others = [{args: [*args, 1]}, {class: "B"}, {created_at: 2}, {jid: "j2"}]
        expect(others.map { |more| lineage(payload(**first, **more)) }).to all(satisfy { |other| other != lineage(payload(**first)) })
      end

      it "does not depend on the place of the jid" do
        order = %w[jid class args created_at]
        expect(lineage(payload(order, **first))).to eq(lineage(payload(order, **first)))
        expect(lineage(payload(order, **first))).not_to eq(lineage(payload(order, args: [*args, 1])))
      end

      it "differs between arguments under an escaped name" do
        lineages = [1, 2].map { |number| lineage(payload(**first, args: [number, *args]).sub('"args":', '"arg\u0073":')) }
        expect(lineages.uniq.size).to eq(2)
      end

      it "is nil without a jid" do
        expect([nil, ""].map { |jid| lineage(payload(**first, jid: jid)) }).to eq([nil, nil])
      end

      it "takes a jid that is not a text" do
        expect(lineage(payload(**first, jid: [7]))).to eq(lineage(payload(**first, jid: [7], enqueued_at: 5)))
      end
    end
  end

  it "takes bytes that are not UTF-8" do
    text = payload(args: [*[{}] * 5, "x" * 5000, "BYTES"]).sub("BYTES", "\xff".b)
    expect(lineage(text)).to eq(lineage(text))
  end
end
