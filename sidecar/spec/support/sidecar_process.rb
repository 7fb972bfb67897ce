# frozen_string_literal: true

require "net/http"
require "socket"
require "stringio"
require "tmpdir"
require "support/requests"

# Net::HTTP over a Unix socket.
class UnixHttp < Net::HTTP
  attr_accessor :path

  def self.to(path) = new("localhost").tap { |http| http.path = path }

  def connect
    @socket = Net::BufferedIO.new(UNIXSocket.new(path), read_timeout: 30)
    on_connect
  end
end

# A real bin/sidecar on a Unix socket.
class SidecarProcess
  include Waiting

  BIN = File.expand_path("../../bin/sidecar", __dir__)

  attr_reader :pid, :path, :status

  def self.run(*args, **options)
    process = new(*args, **options)
    process.start
    yield process
  ensure
    process&.kill
  end

  # `files` is how many the process may open.
  def initialize(app, *args, env: {}, bind: nil, files: nil)
    @directory = Dir.mktmpdir("sidecar-spec-")
    @path = File.join(@directory, "s.sock")
    @args = ["--require", app, "--bind", bind || "unix://#{path}", *args]
    @env = env
    @limits = files ? {rlimit_nofile: files} : {}
    @token = 0
  end

  def start(ready: true)
    @pid = Process.spawn(@env, "ruby", BIN, *@args, out: log_path, err: log_path, **@limits)
    wait_until("the sidecar to be ready: #{log}", seconds: 60) { exited? ? raise(log) : answers? } if ready
  end

  def log_path = File.join(@directory, "log")

  def log = File.exist?(log_path) ? File.read(log_path) : ""

  def signal(name) = Process.kill(name, pid)

  def exited?
    return true if @status
    _, @status = Process.wait2(pid, Process::WNOHANG)
    !@status.nil?
  end

  def answers?
    request(:get, "/health/ready").code == "200"
  rescue SystemCallError, IOError
    false
  end

  def wait_for_exit
    wait_until("the sidecar to exit: #{log}", seconds: 60) { exited? }
    status.exitstatus
  end

  def kill
    signal("TERM") unless exited?
    wait_for_exit
  rescue RuntimeError
    signal("KILL")
  ensure
    FileUtils.remove_entry(@directory)
  end

  def request(method, path, body = nil, headers = {}, socket: @path)
    http = UnixHttp.to(socket)
    request = Net::HTTP.const_get(method.capitalize).new(path, headers)
    http.start { http.request(request, body) }
  end

  # A body of unknown length.
  def stream(path, body, headers)
    request = Net::HTTP::Post.new(path, headers)
    request.body_stream = StringIO.new(body)
    UnixHttp.to(@path).start { |http| http.request(request) }
  end

  def json(...)
    response = request(...)
    [response.code.to_i, JSON.parse(response.body)]
  end

  def health = json(:get, "/health", nil, Requests.headers).last

  def boot = @boot ||= health.fetch("boot")

  def execute(payload, delivery: "h:1:a/#{@token += 1}", boot: self.boot, socket: @path, **more)
    json(:post, "/jobs/execute", payload, Requests.headers(boot: boot, delivery: delivery, **more), socket: socket)
  end
end
