# frozen_string_literal: true

require_relative "spec_helper"
require "openssl"
require "support/stream_client"

RSpec.describe "A sidecar on ssl://" do
  around do |example|
    Dir.mktmpdir("sidecar-tls-") do |directory|
      @directory = directory
      @ca = issue("ca", nil)
      issue("server", @ca)
      issue("client", @ca)
      example.run
    end
  end

  def file(name) = File.join(@directory, name)

  def issue(name, issuer)
    key = OpenSSL::PKey::EC.generate("prime256v1")
    cert = certificate(name, key, issuer)
    File.write(file("#{name}.crt"), cert.to_pem)
    File.write(file("#{name}.key"), key.to_pem)
    [cert, key]
  end

  def certificate(name, key, issuer)
    OpenSSL::X509::Certificate.new.tap do |cert|
      cert.version = 2
      cert.serial = rand(1 << 64)
      cert.subject = OpenSSL::X509::Name.parse("/CN=#{name}")
      cert.issuer = issuer ? issuer[0].subject : cert.subject
      cert.public_key = key
      cert.not_before = Time.now - 3600
      cert.not_after = Time.now + 3600
      extend_certificate(cert, issuer)
      cert.sign(issuer ? issuer[1] : key, OpenSSL::Digest.new("SHA256"))
    end
  end

  def extend_certificate(cert, issuer)
    factory = OpenSSL::X509::ExtensionFactory.new(issuer ? issuer[0] : cert, cert)
    cert.add_extension(factory.create_extension("basicConstraints", issuer ? "CA:FALSE" : "CA:TRUE", true))
    cert.add_extension(factory.create_extension("subjectAltName", "IP:127.0.0.1"))
  end

  def with_sidecar(*options)
    port = TCPServer.open("127.0.0.1", 0) { |server| server.addr[1] }
    sidecar = SidecarProcess.new(SETTINGS.app, *options, bind: "ssl://127.0.0.1:#{port}", env: {"BRIDGE_SIDECAR_SECRET" => "s3cret"})
    sidecar.start(ready: false)
    wait_until("TLS: #{sidecar.log}") { raise sidecar.log if sidecar.exited?; sidecar.log.include?("Sidecar ready") }
    yield port
  ensure
    sidecar.kill
  end

  def client(port, name = nil)
    Net::HTTP.new("127.0.0.1", port).tap do |http|
      http.use_ssl = true
      http.ca_file = file("ca.crt")
      next unless name
      http.cert = OpenSSL::X509::Certificate.new(File.read(file("#{name}.crt")))
      http.key = OpenSSL::PKey.read(File.read(file("#{name}.key")))
    end
  end

  def certificate_options = ["--tls-cert", file("server.crt"), "--tls-key", file("server.key")]

  it "serves over TLS, still wanting the signature" do
    with_sidecar(*certificate_options) do |port|
      expect(client(port).get("/health/live").code).to eq("200")
      expect(client(port).get("/health", Requests.headers).code).to eq("401")
      expect(health(port)).to include("status" => "ready")
    end
  end

  def health(port)
    boot = nil
    Array.new(2) do
      signed = Requests.signed(Requests.headers(boot: boot), "s3cret", "GET", "/health", "")
      JSON.parse(client(port).get("/health", signed).body).tap { |answer| boot = answer["boot"] }
    end.last
  end

  def open_stream(port, boot = health(port)["boot"])
    socket = OpenSSL::SSL::SSLSocket.new(TCPSocket.new("127.0.0.1", port))
    socket.sync_close = true
    StreamClient.new(socket.connect, boot: boot, secret: "s3cret")
  end

  it "carries streams, whose two directions do not disturb each other" do
    with_sidecar(*certificate_options) do |port|
      stream = open_stream(port)
      expect(stream.probe).to eq([200, nil])
      ids = []
      300.times do |index|
        ids << stream.send_job(payload("class" => "FailingJob", "args" => ["x" * (index * 100)], "jid" => index.to_s))
        expect(stream.reply(ids.shift).last).to include("status" => "failed") if ids.size == 5
      end
      ids.each { |id| expect(stream.reply(id).first).to eq(200) }
      stream.write("what?\n")
      expect(stream).to be_ended
    end
  end

  it "carries streams to the worker that is meant, whichever has accepted the connection" do
    with_sidecar(*certificate_options, "--workers", "2") do |port|
      boots = wait_until { health(port)["workers"]&.then { |list| list.map { |worker| worker["boot"] } if list.size == 2 } }
      streams = boots.flat_map { |boot| Array.new(4) { open_stream(port, boot) } }
      expect(streams.map { |stream| stream.headers["x-bridge-boot"] }).to eq(boots.flat_map { |boot| [boot] * 4 })
      streams.each do |stream|
        50.times do |index|
          job = payload("class" => "FailingJob", "args" => ["x" * (index * 300)], "jid" => "#{stream.object_id}-#{index}")
          expect(stream.execute(job).last).to include("status" => "failed")
        end
        stream.close
      end
    end
  end

  it "turns away clients without a certificate when it was given a CA" do
    with_sidecar(*certificate_options, "--tls-ca", file("ca.crt")) do |port|
      expect { client(port).get("/health/live") }.to raise_error { |error| expect([OpenSSL::SSL::SSLError, SystemCallError, EOFError]).to include(be === error) }
      expect(client(port, "client").get("/health/live").code).to eq("200")
    end
  end
end
