# frozen_string_literal: true

require_relative "spec_helper"

RSpec.describe SidekiqBridge::Sidecar::ErrorLog do
  def hide(...) = described_class.hide(...)

  it "takes the arguments out of a message, as text and as #inspect writes them" do
    expect(hide("no such user: alice@example.org", ["alice@example.org"])).to eq("no such user: ***")
    expect(hide('invalid value: "a\\nb\\"c"', ["a\nb\"c"])).to eq('invalid value: "***"')
    expect(hide("card 4111111111111111", [{"card" => [4_111_111_111_111_111]}])).to eq("card ***")
    expect(hide("secret-token", %w[secret secret-token])).to eq("***")
    expect(hide("after null: hidden-value", ["hidden-value", nil])).to eq("after null: ***")
    expect(hide("one of 12 failed", [12, "of", true])).to eq("one of 12 failed")
    expect(hide("nothing", nil)).to eq("nothing")
  end

  # The probe of `bridge verify` has the argument "fail": its log said "***ed on purpose".
  it "hides whole words only" do
    expect(hide("failed on purpose", ["fail"])).to eq("failed on purpose")
    expect(hide("cannot find stat for state of the status", ["stat"])).to eq("cannot find *** for state of the status")
    expect(hide("user_4711 and 4711 and 47110", [4711])).to eq("user_*** and *** and 47110")
    expect(hide('line\\nsecret \\u00e9secret \\e[secret', ["secret"])).to eq('line\\n*** \\u00e9*** \\e[***')
    expect(hide("the customer 田中様", ["田中"])).to eq("the customer 田中様")
    expect(hide("the customer 田中一郎様", ["田中一郎"])).to eq("the customer ***様")
  end

  it "replaces Sidekiq's own handler, which logs whole jobs" do
    handlers = SidekiqBridge::Sidecar::VersionAdapter.current.send(:error_handlers)
    expect(handlers.count { |handler| handler.is_a?(described_class) }).to eq(1)
    expect(handlers.none? { |handler| SidekiqBridge::Sidecar::VersionAdapter.current.send(:own_error_log?, handler) }).to be(true)
  end
end
