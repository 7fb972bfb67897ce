# frozen_string_literal: true

require_relative "spec_helper"
require "socket"
require "sidekiq_bridge/sidecar/http/client_budget"

RSpec.describe SidekiqBridge::Sidecar::ClientBudget do
  subject(:budget) { described_class.new(files: 32) { @refused += 1 } }

  let(:gate) { ->(env) { env["signed"] } }
  let(:share) { budget.main_share(gate) }

  before { @refused = 0 }

  after { @pairs&.flatten&.each(&:close) }

  # A client's own end, and the object that the budget knows of it.
  def come(share = self.share)
    ours, theirs = UNIXSocket.pair
    (@pairs ||= []) << [ours, theirs]
    budget.accept(share) { theirs }
    [ours, SidekiqBridge::Sidecar::BudgetedClient.of(theirs)]
  end

  def ended?(ours) = ours.read_nonblock(1, exception: false).nil?

  it "has half of the process's files for connections, and half of those for unsigned clients" do
    clients = Array.new(8) { come }
    expect(clients.none? { |ours, _| ended?(ours) }).to be(true)
    come
    expect(clients.map { |ours, _| ended?(ours) }).to eq([true] + [false] * 7)
    expect([budget.counts, @refused]).to eq([{unsigned: 8, ending: 1, signed: 0, bytes: 0}, 1])
  end

  it "ends no client that has signed a request" do
    worker, client = come
    expect(client.signed?({"signed" => true})).to be(true)
    20.times { come.last.closed }
    8.times { come }
    expect(ended?(worker)).to be(false)
    expect(budget.counts).to include(signed: 1, unsigned: 8)
  end

  it "takes no more at all once its connections are in use" do
    16.times { come.last.signed?({"signed" => true}) }
    expect { come }.to raise_error(IO::EAGAINWaitReadable)
    expect(@pairs.last.last).to be_closed
    @pairs.first.last.close
    expect { come }.not_to raise_error
  end

  it "gives the second address a part, which the first does not pay for" do
    clients = Array.new(7) { come.first }
    probes = Array.new(3) { come(metrics).first }
    expect(probes.map { |ours| ended?(ours) }).to eq([true, true, false])
    expect(clients.none? { |ours| ended?(ours) }).to be(true)
  end

  def metrics = @metrics ||= budget.metrics_share

  it "believes no signature on the second address" do
    _, client = come(metrics)
    expect(client.signed?({"signed" => true})).to be(false)
  end

  it "counts the bytes of incomplete requests, and ends who came first when they are too many" do
    stub_const("#{described_class}::UNSIGNED_BYTES", 1000)
    first, one = come
    second, two = come
    one.holds(600)
    two.holds(300)
    expect([ended?(first), budget.counts[:bytes]]).to eq([false, 900])
    two.holds(500)
    expect([ended?(first), ended?(second), budget.counts[:bytes]]).to eq([true, false, 500])
    two.signed?({"signed" => true})
    expect(budget.counts[:bytes]).to eq(0)
    two.holds(5000)
    expect(budget.counts[:bytes]).to eq(0)
  end

  it "knows nothing any more of a client that is closed" do
    clients = Array.new(12) { come.last }
    clients.first.signed?({"signed" => true})
    clients.each(&:closed)
    expect(budget.counts).to include(unsigned: 0, ending: 0, bytes: 0)
    expect(share.clients).to be_empty
  end

  it "pauses and makes room when the process has no files left" do
    clients = Array.new(4) { come.first }
    stub_const("#{described_class}::PAUSE_SECONDS", 0)
    [Errno::EMFILE, Errno::ENFILE, Errno::ENOBUFS, Errno::ENOMEM].each do |error|
      expect { budget.accept(share) { raise error } }.to raise_error(IO::EAGAINWaitReadable)
    end
    expect(clients.map { |ours| ended?(ours) }).to all(be(true))
  end
end
