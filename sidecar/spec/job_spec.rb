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

  # An attempt's error made the payload pass 4,096 bytes, or held the comment of an SQL statement. The second attempt
  # then had another lineage than the first one, which may run still, and did not wait for it.
  describe "the lineage of a job whose error changes what can be read by bytes" do
    fields = {"a size that grows" => "x" * 500, "a comment" => "PG::Error: SELECT 1 /* app */", "brackets and slashes" => "[/] {//"}
    sizes = {"below the threshold" => 3800, "above it" => 6000}

    sizes.to_a.product(fields.to_a).each do |(place, size), (what, message)|
      it "is the same for each attempt with #{what}, #{place}" do
        first = {args: [*[{}] * 5, "x" * size]}
        expect(lineage(payload(**first, retry_count: 0, error_message: message))).to eq(lineage(payload(**first)))
      end
    end

    it "does not depend on the length of the queue's name" do
      order = %w[queue class args jid created_at]
      first = {args: ["y" * 1900, *[{}] * 5, "x" * 6000]}
      lineages = ["low", "a_much_longer_name_of_a_queue" * 3].map { |name| lineage(payload(order, **first, queue: name)) }
      expect(lineages.uniq.size).to eq(1)
    end
  end

  # JSON 3 takes no comments: nothing is hidden behind one there.
  it "sees other arguments behind a comment that holds a quote", if: JSON::VERSION < "3" do
    lineages = [1, 2].map do |number|
      behind = %(,"note":1/* " */,"args":[#{number}],"z":""})
      lineage(payload(args: [*[{}] * 5, "x" * 5000]).sub(/\}\z/, behind))
    end
    expect(lineages.uniq.size).to eq(2)
  end

  it "takes bytes that are not UTF-8" do
    text = payload(args: [*[{}] * 5, "x" * 5000, "BYTES"]).sub("BYTES", "\xff".b)
    expect(lineage(text)).to eq(lineage(text))
  end
end
