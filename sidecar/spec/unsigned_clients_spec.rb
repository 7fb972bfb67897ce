# frozen_string_literal: true

require_relative "spec_helper"
require "support/unsigned_clients"

# The limits on unsigned clients, on a real sidecar with few files and a secret.
RSpec.describe "Unsigned clients" do
  include UnsignedClients

  FILES = 128
  LARGE = 40 * 1024 * 1024

  around do |example|
    with_sidecar("--metrics-bind", "tcp://127.0.0.1:#{metrics_port}", files: FILES) { example.run }
  end

  # Two servers had half of the files each: signed jobs timed out, and 1.7 million lines of log were written in a minute.
  it "keep no signed job out, however many they are, on both addresses" do
    crowd = Array.new(150) { [connect, connect(metrics_port)] }.flatten
    10.times { expect(execute).to match([200, include("status" => "done")]) }
    expect(open_files.size).to be < FILES * 3 / 4
    crowd.each { |client| client.write("GET /metrics HT") rescue nil } # rubocop:disable Style/RescueModifier
    10.times { expect(execute).to match([200, include("status" => "done")]) }
    expect(get("/health/live", metrics_port)).to start_with("HTTP/1.1 200")
    expect(sidecar.log.lines.grep_v(/TracingJob/).size).to be < 6
    expect(metric("requests_refused_total", code: "connections")).to be > 150
  end

  # Puma wrote a line for each time around its loop, and went around it without a pause.
  it "wait in the socket's queue while the app has taken all files" do
    hoarder = Thread.new { execute(payload("class" => "HoardingJob", "jid" => "hoarder")) }
    wait_until { open_files.size > FILES - 12 }
    crowd = Array.new(40) { connect }
    wait_until { sidecar.log.include?("the sidecar cannot accept connections (EMFILE)") }
    busy = cpu_seconds { 10.times { connect } && sleep(1) } # for a second of the fault # rubocop:disable Style/RedundantParentheses
    expect(busy).to be < 0.5
    FileUtils.touch(release_file)
    expect(hoarder.value).to match([200, include("status" => "done")])
    crowd.each(&:close)
    expect(execute).to match([200, include("status" => "done")])
    expect(sidecar.log.lines.grep(/EMFILE/).size).to be <= 3
  end

  it "make room for each other: the one that came first goes" do
    first = connect
    wait_until { open_sockets.positive? }
    crowd = Array.new(100) { connect }
    expect(ended?(first)).to be(true)
    expect(crowd.last.read_nonblock(1, exception: false)).to eq(:wait_readable)
    crowd.last.write("GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
    expect(read_all(crowd.last)).to start_with("HTTP/1.1 200")
  end

  it "have a few connections of the second address" do
    Array.new(100) { connect(metrics_port) }
    kept = Array.new(20) { connect }
    wait_until { open_sockets <= 20 + 8 + 4 }
    expect(kept.none? { |client| client.read_nonblock(1, exception: false).nil? }).to be(true)
  end

  # A worker's kept connections are not among those that go.
  it "do not end the connection of a worker" do
    worker = connect
    worker.write(signed_request("GET", "/health", {"X-Bridge-Boot" => boot}))
    expect(answer(worker)).to include("200")
    Array.new(200) { connect }
    worker.write(signed_request("POST", "/jobs/execute", job_headers, payload))
    expect(answer(worker)).to include('"status":"done"')
  end

  # Six held 595 MB on disk, and a job was refused for half a minute after they had left.
  it "have no body kept, in files or in memory" do
    before = memory
    heads = [["Content-Length: #{LARGE}", ""], ["Transfer-Encoding: chunked", "#{LARGE.to_s(16)}\r\n"]]
    [nil, metrics_port].product(heads) do |port, (header, start)|
      senders = Array.new(6) do
        connect(*port).tap { |client| client.write("POST /jobs/execute HTTP/1.1\r\nHost: x\r\nX-Bridge-Protocol: 2\r\n#{header}\r\n\r\n#{start}") }
      end
      send_large(senders)
      expect(temporary_bytes).to eq(0)
      senders.each(&:close)
    end
    expect(memory - before).to be < 30_000_000
    expect(execute).to match([200, include("status" => "done")])
  end

  # Six of 20 MB filled the 64 MB that /tmp has in a container: jobs were refused with 500.
  it "see no disk used by signed bodies either, however many come at once" do
    large = payload("args" => ["x" * 8_000_000])
    senders = Array.new(6) do |number|
      client = connect
      client.write(signed_request("POST", "/jobs/execute", job_headers, payload("args" => ["x" * 8_000_000], "jid" => "large-#{number}"), {"Connection" => "close"})[0..-100_000])
      client
    end
    expect(temporary_bytes).to eq(0)
    senders.each(&:close)
    expect(execute(large)).to match([200, include("status" => "done")])
    chunked = signed_request("POST", "/jobs/execute", job_headers, large, {"Connection" => "close", "Transfer-Encoding" => "chunked"}).sub(/Content-Length: \d+\r\n/, "")
    head, body = chunked.split("\r\n\r\n", 2)
    expect(send_and_read("#{head}\r\n\r\n#{body.bytesize.to_s(16)}\r\n#{body}\r\n0\r\n\r\n")).to include('"status":"done"')
  end

  it "hear what is wrong, with a body and without" do
    ["", "x" * 1000, "x" * 60_000].each do |body|
      client = connect
      client.write("POST /jobs/execute HTTP/1.1\r\nHost: x\r\nX-Bridge-Protocol: 2\r\nContent-Length: #{body.bytesize}\r\n\r\n#{body}")
      expect(read_all(client)).to match(/\AHTTP\/1.1 401.*connection: close.*"code":"unsigned"/mi)
    end
    client = connect
    client.write("POST /jobs/execute HTTP/1.1\r\nHost: x\r\nX-Bridge-Protocol: 2\r\nExpect: 100-continue\r\nContent-Length: #{LARGE}\r\n\r\n")
    expect(read_all(client)).to match(/\AHTTP\/1.1 401/)
  end

  it "cannot have the body of a recorded request taken a second time" do
    request = signed_request("POST", "/jobs/execute", job_headers, payload("args" => ["x" * 300_000]), {"Connection" => "close"})
    expect(send_and_read(request)).to include('"status":"done"')
    head = request[/\A.*?\r\n\r\n/m]
    client = connect
    client.write(head)
    expect(read_all(client)).to match(/\AHTTP\/1.1 403.*"code":"replay"/m)
    expect(temporary_bytes).to eq(0)
  end

  it "hold few bytes with requests that they do not complete" do
    before = memory
    crowd = Array.new(30) { connect }
    crowd.each { |client| client.write("GET /#{"a" * 1000} HTTP/1.1\r\n#{"X: #{"y" * 1000}\r\n" * 25}") }
    wait_until { execute }
    expect(memory - before).to be < 30_000_000
    client = connect
    client.write("GET / HTTP/1.1\r\n#{"X: #{"y" * 1000}\r\n" * 40}")
    expect(ended?(client)).to be(true)
    expect(execute).to match([200, include("status" => "done")])
  end

  it "write few lines of log, whatever they send" do
    ["\x16\x03\x01\x02\x00", "GET / HTTP/9\r\n\r\n", "FOO\r\n\r\n", "GET http://[x HTTP/1.1\r\nHost: x\r\n\r\n",
      "CONNECT a:1 HTTP/1.1\r\nHost: x\r\n\r\n", "GET /\e[2J HTTP/1.1\r\n\r\n", "POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
      "GET / HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: \xE2\x80\xA8forged\r\nTransfer-Encoding: x\r\n\r\n"].cycle(20) do |text|
      expect(send_and_read(text.b)).to match(/\AHTTP\/1.[01] (4|501)|\A\z/)
    end
    expect(sidecar.log.lines.size).to be < 30
    expect(sidecar.log.gsub(/\e\[[\d;]*m/, "")).not_to match(/[\e\u2028]|\.rb:\d/) # Sidekiq 8 writes levels in colour
  end

  # Drawn with a fixed seed: bytes of every kind, and a good request with some bytes changed.
  it "get an answer or an end for any bytes, never an error of the sidecar's" do
    random = Random.new(13)
    good = request("POST", "/jobs/execute", Requests.headers(boot: "0" * 16, delivery: "h:1:a/1").merge("Connection" => "close"), "{}").b
    300.times do
      bytes = random.rand(2).zero? ? random.bytes(random.rand(300)) : good.dup.tap { |copy| 3.times { copy.setbyte(random.rand(copy.bytesize), random.rand(256)) } }
      client = connect
      client.write("#{bytes}\r\n\r\n")
      client.close_write
      expect(read_all(client)).not_to match(/\AHTTP\/1.1 5/), bytes.inspect
      client.close
    end
    expect(sidecar.log).not_to include(" ERROR")
    expect(execute).to match([200, include("status" => "done")])
  end

  it "are answered in one request, however many they send at once" do
    client = connect
    client.write("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 500)
    expect(read_all(client).scan("HTTP/1.1").size).to eq(1)
  end
end
