# frozen_string_literal: true

require_relative "spec_helper"
require "sidekiq_bridge/sidecar/http/puma_log"

RSpec.describe SidekiqBridge::Sidecar::LogText do
  def logged(logger = Logger.new(@io = StringIO.new))
    described_class.install(logger)
    yield logger
    @io.string
  end

  # A constant of the app, or a proc that is shareable between Ractors: the sidecar did not start.
  it "escapes for a formatter that is frozen" do
    formatter = ->(_severity, _time, _program, message) { "#{message}|" }.freeze
    text = logged(Logger.new(@io = StringIO.new, formatter: formatter)) { |logger| logger.info("a\e[31m") }
    expect(text).to eq('a\e[31m|').or eq('a\x1B[31m|')
  end

  it "writes control characters as their escapes, in one line" do
    expect(described_class.line("a\r\nb\e[31m\u0000\u0085\u2028\u202Ec")).to eq('a\r\nb\e[31m\x00\u0085\u2028\u202Ec').or eq('a\r\nb\e[31m\u0000\u0085\u2028\u202Ec')
    expect(described_class.line("plain, größe, \u{1F600}")).to eq("plain, größe, \u{1F600}")
    expect(described_class.line("\xFF\xFE\n".b)).to eq('??\n'.tr("?", "\uFFFD"))
  end

  it "writes a value in one word" do
    expect(described_class.word("HardJob")).to eq("HardJob")
    expect(described_class.word("a b")).to eq('"a b"')
    expect(described_class.word("x\nINFO: \"done\"")).to eq('"x\nINFO: \"done\""')
    expect(described_class.word("x" * 10_000).size).to be < 600
  end

  it "lets no line of a message begin where a record begins" do
    text = logged { |logger| logger.warn("failed\n2026-01-01T00:00:00.000Z pid=1 tid=a INFO: done\e[2J") }
    expect(text.lines.size).to eq(2)
    expect(text.lines.last).to eq("  2026-01-01T00:00:00.000Z pid=1 tid=a INFO: done\\e[2J\n")
  end

  it "works with formatters of every kind" do
    [nil, Sidekiq::Logger::Formatters::Pretty.new, ->(_severity, _time, _program, message) { "#{message}\n" }].each do |formatter|
      text = logged(Logger.new(@io = StringIO.new, formatter: formatter)) { |logger| logger.warn("a\nb\e") }
      expect(text).to end_with("a\n  b\\e\n")
    end
    text = logged(Logger.new(@io = StringIO.new, formatter: Sidekiq::Logger::Formatters::JSON.new)) { |logger| logger.warn("a\nb") }
    expect(JSON.parse(text)["msg"]).to eq("a\n  b")
  end

  # The log once showed class, jid and tags unescaped from the payload, including line breaks.
  it "writes what Sidekiq says of a running job without its control characters" do
    forged = "X\n2026-01-01T00:00:00.000Z pid=1 tid=a class=Paid jid=1 INFO: done"
    logger = Sidekiq::Logger.new(@io = StringIO.new)
    logger.formatter = Sidekiq::Logger::Formatters::Pretty.new
    text = logged(logger) do
      Sidekiq::Context.with(class: forged, jid: "j\e[2J", tags: ["a\nb", ["c\rd"]], bid: {"a" => "\n"}, elapsed: 0.1) { logger.info("done") }
    end
    expect(text.lines.size).to eq(1)
    expect(text).to include('jid="j\e[2J"', '"a\nb","c\rd"', "elapsed=0.1").and include('class="X\n2026')
  end

  it "leaves the context of the job as it was" do
    Sidekiq::Context.with(jid: "a\nb") do
      logged(Sidekiq::Logger.new(@io = StringIO.new)) { |logger| logger.info("done") }
      expect(Sidekiq::Context.current[:jid]).to eq("a\nb")
    end
  end

  describe SidekiqBridge::Sidecar::LogQuota do
    it "passes a number of lines a minute, and tells how many it left out" do
      now = 0
      quota = described_class.new(2, now: -> { now })
      spent = []
      spend = -> { quota.spend { |left_out| spent << left_out } }
      5.times { spend.call }
      expect(spent).to eq([0, 0])
      now = 60
      spend.call
      expect(spent).to eq([0, 0, 3])
    end
  end

  describe SidekiqBridge::Sidecar::PumaLog do
    it "gives Puma's lines to Sidekiq's log, in one line each and a limited number a minute" do
      lines = []
      allow(Sidekiq.logger).to receive(:warn) { |&block| lines << block.call }
      log = described_class.new
      100.times { |index| log.puts("2026-11-30 03:00:00 +0000 HTTP parse error: #{index}\r\n\e[2Jforged") }
      expect(lines.size).to eq(described_class::LINES_A_MINUTE)
      expect(lines.first).to eq('HTTP server: HTTP parse error: 0\r\n\e[2Jforged')
    end
  end
end
