# frozen_string_literal: true

require "socket"
require "support/requests"

# A sidecar on TCP with a secret, and clients of it as anybody can be one.
module UnsignedClients
  SECRET = "the-secret-of-these-specs"

  attr_reader :sidecar

  def with_sidecar(*options, scheme: "tcp", files: nil)
    @sidecar = SidecarProcess.new(SETTINGS.app, *options, bind: "#{scheme}://127.0.0.1:#{port}", files: files, env: {"BRIDGE_SIDECAR_SECRET" => SECRET, "RELEASE_FILE" => release_file})
    sidecar.start(ready: false)
    wait_until("the sidecar: #{sidecar.log}") { raise sidecar.log if sidecar.exited?; sidecar.log.include?("Sidecar ready") }
    yield
  ensure
    (@clients || []).each(&:close)
    FileUtils.touch(release_file)
    sidecar.kill
    FileUtils.rm_f(release_file)
  end

  def release_file = @release_file ||= File.join(Dir.tmpdir, "release-#{SecureRandom.hex(8)}")

  # Of the sidecar, while the block runs.
  def cpu_seconds
    used = -> { File.read("/proc/#{sidecar.pid}/stat").split(") ").last.split.values_at(11, 12).sum(&:to_i) / 100.0 }
    before = used.call
    yield
    used.call - before
  end

  def port = @port ||= free_port

  def metrics_port = @metrics_port ||= free_port

  def free_port = TCPServer.open("127.0.0.1", 0) { |server| server.addr[1] }

  def connect(number = port)
    TCPSocket.new("127.0.0.1", number).tap { |client| (@clients ||= []) << client }
  end

  def request(method, path, headers, body = "")
    lines = headers.merge("Host" => "x", "Content-Length" => body.bytesize).map { |name, value| "#{name}: #{value}\r\n" }
    "#{method} #{path} HTTP/1.1\r\n#{lines.join}\r\n#{body}"
  end

  def signed_request(method, path, headers, body = "", more = {})
    request(method, path, Requests.signed(Requests.headers.merge(headers), SECRET, method, path, body).merge(more), body)
  end

  def job_headers
    {"X-Bridge-Boot" => boot, "X-Bridge-Queue" => "default", "X-Bridge-Claimed-At" => "1", "X-Bridge-Delivery" => "h:1:a/#{@token = (@token || 0) + 1}"}
  end

  def boot
    @boot ||= JSON.parse(send_and_read(signed_request("GET", "/health", {}, "", {"Connection" => "close"}))[/\{.*/m])["boot"]
  end

  # One reply on a connection that stays open.
  def answer(client)
    head = +""
    head << client.readpartial(1) until head.end_with?("\r\n\r\n")
    head + client.read(head[/content-length: (\d+)/i, 1].to_i)
  end

  # Until the other side closes.
  def send_and_read(text, number = port)
    client = connect(number)
    client.write(text)
    read_all(client)
  ensure
    client&.close
  end

  # The bytes from the other side when it ends.
  def read_all(client)
    said = +""
    said << client.readpartial(65_536) while client.wait_readable(20)
    raise "the connection does not end"
  rescue EOFError, SystemCallError
    said
  end

  def execute(text = payload)
    reply = send_and_read(signed_request("POST", "/jobs/execute", job_headers, text, {"Connection" => "close"}))
    [reply[/\AHTTP\/1.1 (\d+)/, 1].to_i, JSON.parse(reply[/\r\n\r\n(.*)/m, 1])]
  end

  def get(path, number = port) = send_and_read("GET #{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", number)

  def metric(name, code:) = get("/metrics")[/#{name}\{worker="0",code="#{code}"\} (\d+)/, 1].to_i

  # Whether the other side ends the connection, in time.
  def ended?(client)
    wait_until("the connection to end") { closed?(client) }
  end

  def closed?(client)
    loop { return false if client.read_nonblock(4096) == :wait_readable }
  rescue IO::WaitReadable
    false
  rescue EOFError, SystemCallError
    true
  end

  # As much as the other side takes, without waiting for it.
  def send_large(clients, bytes: 20 * 1024 * 1024)
    piece = "x" * 262_144
    (bytes / piece.bytesize).times do
      clients.each { |client| client.write_nonblock(piece, exception: false) }
    rescue SystemCallError
      clients = clients.reject { |client| closed?(client) }
      IO.select(nil, clients, nil, 0.05)
    end
  end

  def open_files = Dir.children("/proc/#{sidecar.pid}/fd").filter_map { |fd| File.readlink("/proc/#{sidecar.pid}/fd/#{fd}") rescue nil } # rubocop:disable Style/RescueModifier

  def open_sockets = File.readlines("/proc/net/tcp").count { |line| line.split[1].end_with?(format(":%04X", port), format(":%04X", metrics_port)) && line.split[3] == "01" }

  # Of files without a name, as Puma's are.
  def temporary_bytes
    Dir.children("/proc/#{sidecar.pid}/fd").sum do |fd|
      path = "/proc/#{sidecar.pid}/fd/#{fd}"
      File.readlink(path).end_with?("(deleted)") ? File.stat(path).size : 0
    rescue Errno::ENOENT
      0
    end
  end

  def memory = File.read("/proc/#{sidecar.pid}/statm").split[1].to_i * 4096
end
