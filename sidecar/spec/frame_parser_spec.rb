# frozen_string_literal: true

require_relative "spec_helper"
require "sidekiq_bridge/sidecar/stream/frame_parser"

RSpec.describe SidekiqBridge::Sidecar::FrameParser do
  # Gives its pieces one by one, as a socket would.
  let(:source) do
    Class.new(Array) do
      def read_into(buffer) = buffer.replace(shift || raise(EOFError))
    end
  end

  def parse(*pieces, max_body: 1000)
    parser = described_class.new(max_body: max_body)
    socket = source.new(pieces.map { |piece| piece.dup.b })
    frames = []
    loop do
      parser.read_from(socket)
      parser.each_frame { |frame| frames << frame }
    end
  rescue EOFError
    frames
  end

  def job(body, id: 1, bytes: body.bytesize, queue: "default") = "E #{id} #{bytes} h:1:a 7 1700000000000 0 #{queue}\n#{body}"

  it "reads what a line says" do
    frame = parse("E 12 2 host:1:abc 7 1700000000000 3 a%20b%2F%C3%BC\n{}").first
    expect([frame.id, frame.delivery, frame.claimed_at_ms, frame.recovered, frame.queue, frame.body])
      .to eq(["12", "host:1:abc/7", 1_700_000_000_000, 3, "a b/ü", "{}"])
    expect(parse(job("{}")).first.recovered).to eq(0)
  end

  it "reads whether a result is wanted, before the trace" do
    lines = {"" => [false, nil], " track" => [true, nil], " traceparent=00-a-b-01" => [false, "00-a-b-01"], " track traceparent=00-a-b-01" => [true, "00-a-b-01"]}
    lines.each do |words, found|
      frame = parse("E 1 2 h:1:a 7 1700000000000 0 q#{words}\n{}").first
      expect([frame.tracked?, frame.trace&.fetch("traceparent")]).to eq(found), words
    end
    expect { parse("E 1 0 h:1:a 7 1 0 q tracked\n") }.to raise_error(described_class::Malformed)
  end

  it "finds frames however they were cut" do
    text = [job("{\"a\":\n\n1}", id: 1), "P 2 0\n", job("", id: 3), job("E 9 0\n", id: 4)].join
    [1, 2, 3, 7, 50, text.bytesize].each do |size|
      frames = parse(*text.scan(/.{1,#{size}}/m))
      expect(frames.map(&:id)).to eq(%w[1 2 3 4])
      expect(frames.map(&:probe?)).to eq([false, true, false, false])
      expect(frames.values_at(0, 2, 3).map(&:body)).to eq(["{\"a\":\n\n1}", "", "E 9 0\n"])
    end
  end

  it "gives nothing before the last byte has come" do
    expect(parse(job("{}x", bytes: 4))).to eq([])
  end

  it "keeps no body that is too large, and goes on behind it" do
    text = job("x" * 5000, id: 1) + job("y" * 1000, id: 2) + job("z", id: 3)
    [100, 6000, text.bytesize].each do |size|
      large, exact, small = parse(*text.scan(/.{1,#{size}}/m))
      expect { large.body }.to raise_error(SidekiqBridge::Sidecar::RequestError) { |error| expect(error.http_status).to eq(413) }
      expect([exact.body.bytesize, small.body]).to eq([1000, "z"])
    end
  end

  it "holds no more of such a body than it was given at a time" do
    parser = described_class.new(max_body: 10)
    socket = source.new([job("x" * 10, bytes: 10_000_000).b, *Array.new(100) { "x" * 60_000 }])
    101.times { parser.read_from(socket) && parser.each_frame { raise "too early" } }
    expect(parser.instance_variable_get(:@buffer).bytesize).to be <= 60_000
  end

  it "takes a line of 4,096 bytes, and none that is longer" do
    head = "E 1 0 h:1:a 7 1 0 "
    expect(parse("#{head}#{"q" * (4096 - head.bytesize)}\n").size).to eq(1)
    ["#{head}#{"q" * (4097 - head.bytesize)}\n", "E" * 4097].each { |text| expect { parse(text) }.to raise_error(described_class::Malformed) }
  end

  it "understands nothing else" do
    ["\n", "GET / HTTP/1.1\r\n", "E 1 0 h:1:a 7 1 0\n", "E 1 0 h:1:a 7 1 0 q x\n", "E 1 0  h:1:a 7 1 0 q\n", "E x 0 h:1:a 7 1 0 q\n",
      "E 1 -1 h:1:a 7 1 0 q\n", "E 1 0 h/1 7 1 0 q\n", "E 1 0 h:1:a x 1 0 q\n", "E 1 0 h:1:a 7 soon 0 q\n", "E 1 0 h:1:a 7 1 0 q\r\n", "P 1 1\n", "P 1\n",
      "P x 0\n", "e 1 0 h:1:a 7 1 0 q\n", "\xFF\xFE\n"].each do |line|
      expect { parse(line) }.to raise_error(described_class::Malformed), line
    end
  end

  # Drawn with a fixed seed: bytes of every kind, and good frames with some bytes changed, left out or repeated.
  it "makes frames or an end of any bytes, and keeps no more of them than a frame may have" do
    random = Random.new(13)
    good = Array.new(20) { |index| job("{}" * random.rand(40), id: index, queue: "q%20#{index}") + "P #{index} 0\n" }.join.b
    1000.times do
      bytes = random.rand(2).zero? ? random.bytes(random.rand(400)) : mutated(good, random)
      pieces = bytes.scan(/.{1,#{1 + random.rand(120)}}/mn)
      parser = described_class.new(max_body: 60)
      socket = source.new(pieces.map(&:b))
      frames = []
      begin
        loop { parser.read_from(socket) && parser.each_frame { |frame| frames << frame } }
      rescue EOFError, described_class::Malformed
        expect(parser.instance_variable_get(:@buffer).bytesize).to be <= described_class::LINE_BYTES + bytes.bytesize
      end
      expect(frames.reject(&:probe?).map { |frame| frame.too_large? ? 0 : frame.body.bytesize }).to all(be <= 60)
      frames.each { |frame| expect([frame.queue.to_s, frame.trace.to_s].map(&:valid_encoding?)).to all(be(true)) unless frame.probe? }
    end
  end

  def mutated(bytes, random)
    copy = bytes.dup
    random.rand(1..4).times do
      at = random.rand(copy.bytesize)
      case random.rand(3)
      when 0 then copy.setbyte(at, random.rand(256))
      when 1 then copy.slice!(at, random.rand(1..20))
      else copy.insert(at, copy.byteslice(random.rand(copy.bytesize), random.rand(1..20)))
      end
    end
    copy
  end
end
