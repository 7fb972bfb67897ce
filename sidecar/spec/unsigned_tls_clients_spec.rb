# frozen_string_literal: true

require_relative "spec_helper"
require "support/tls_files"
require "support/unsigned_clients"

# The same as on TCP: a client holds one connection of the budget from its first byte on, in its handshake too.
RSpec.describe "Unsigned clients of a sidecar on ssl://" do
  include UnsignedClients

  around do |example|
    Dir.mktmpdir("sidecar-tls-") do |directory|
      cert, key = TlsFiles.make(directory)
      with_sidecar("--tls-cert", cert, "--tls-key", key, scheme: "ssl", files: 128) { example.run }
    end
  end

  # A worker's request, over TLS.
  def execute_over_tls
    socket = OpenSSL::SSL::SSLSocket.new(connect, OpenSSL::SSL::SSLContext.new).tap { |ssl| ssl.sync_close = true }
    socket.connect
    socket.write(signed_request("GET", "/health", @boot ? {"X-Bridge-Boot" => @boot} : {}, "", {"Connection" => "close"}))
    JSON.parse(socket.read[/\{.*/m]).fetch("boot")
  ensure
    socket&.close
  end

  it "keep no worker out with handshakes that they do not finish" do
    hello = client_hello
    crowd = Array.new(200) { |index| connect.tap { |client| client.write(hello[0, index % hello.bytesize]) } }
    5.times { @boot = execute_over_tls }
    crowd.each { |client| client.write(hello) rescue nil } # rubocop:disable Style/RescueModifier
    5.times { expect(execute_over_tls).to eq(@boot) }
    expect(open_files.size).to be < 110
  end

  it "keep no worker out with headers that they do not finish" do
    crowd = Array.new(60) do
      OpenSSL::SSL::SSLSocket.new(connect, OpenSSL::SSL::SSLContext.new).tap do |ssl|
        ssl.connect
        ssl.write("POST /jobs/execute HTTP/1.1\r\nContent-Length: 90000000\r\nX: ")
      rescue OpenSSL::SSL::SSLError, SystemCallError
        nil # it had to go already
      end
    end
    5.times { @boot = execute_over_tls }
    expect(crowd.size).to eq(60)
    expect(temporary_bytes).to eq(0)
  end

  it "write few lines of log with what is not TLS" do
    ["GET / HTTP/1.1\r\n\r\n", "\x16\x03\x01\x00\x05#{"x" * 5}".b].cycle(60) { |text| connect.write(text) }
    @boot = execute_over_tls
    expect(sidecar.log.lines.size).to be < 25
  end

  # The first flight of a handshake, as OpenSSL sends it.
  def client_hello
    ours, theirs = UNIXSocket.pair
    ssl = OpenSSL::SSL::SSLSocket.new(ours, OpenSSL::SSL::SSLContext.new)
    ssl.connect_nonblock(exception: false)
    theirs.read_nonblock(65_536)
  ensure
    [ours, theirs].each(&:close)
  end
end
