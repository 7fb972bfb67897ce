# frozen_string_literal: true

require_relative "spec_helper"

RSpec.describe SidekiqBridge::Sidecar::TraceContext do
  parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

  # The same cases as in tests/unit/test_trace_context.py.
  {
    {"correlation_id" => "abc"} => "abc",
    {"cattr" => {"tenant" => "a", "request_id" => "r1"}} => "r1",
    {"cattr" => [["tenant", "a"], ["request_id", "r1"]]} => "r1",
    {"cattr" => {"tenant" => "a"}} => nil,
    {"cattr" => "text"} => nil,
    {"cattr" => 7} => nil,
    {"correlation_id" => {"a" => 1}} => nil,
    {"correlation_id" => "x" * 500} => "x" * 200,
    {} => nil
  }.each do |hash, expected|
    it "takes #{expected.inspect[0, 20]} from #{hash.inspect[0, 60]}" do
      expect(described_class.correlation_id(hash)).to eq(expected)
    end
  end

  it "reads the trace of the worker's span, else that of the push" do
    other = parent.tr("0", "1").sub("11-", "00-")
    expect(described_class.trace_id({"traceparent" => parent}, nil)).to eq("0af7651916cd43dd8448eb211c80319c")
    expect(described_class.trace_id({"traceparent" => parent}, {"traceparent" => other})).to eq(other[3, 32])
    [nil, 7, "", "#{parent}\nx"].each { |text| expect(described_class.trace_id({"traceparent" => text}, nil)).to be_nil }
  end
end
