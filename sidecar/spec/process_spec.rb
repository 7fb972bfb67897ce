# frozen_string_literal: true

require_relative "spec_helper"
require "tempfile"

RSpec.describe "A sidecar process" do
  let(:directory) { Dir.mktmpdir("sidecar-trace-") }
  let(:env) { {"TRACE_FILE" => File.join(directory, "trace"), "RELEASE_FILE" => File.join(directory, "release")} }
  let(:app) { SETTINGS.app }

  before { RedisServer.flush }

  after { FileUtils.remove_entry(directory) }

  def trace = File.exist?(env["TRACE_FILE"]) ? File.readlines(env["TRACE_FILE"]).map { |line| JSON.parse(line) } : []

  def release = FileUtils.touch(env["RELEASE_FILE"])

  def listening?(port)
    TCPSocket.new("127.0.0.1", port).close
    true
  rescue Errno::ECONNREFUSED
    false
  end

  it "serves jobs, and leaves nothing in Redis that is Sidekiq's business" do
    SidecarProcess.run(app, env: env) do |sidecar|
      expect(sidecar.execute(payload)).to match([200, include("status" => "done")])
      expect(sidecar.execute(payload("class" => "FailingJob", "jid" => "2"))).to match([200, include("status" => "failed")])
      expect(sidecar.execute(payload("class" => "FailingJob", "jid" => "3", "retry" => 0))).to match([200, include("next" => include("place" => "dead"))])
      sidecar.signal("TERM")
      expect(sidecar.wait_for_exit).to eq(0)
      expect(RedisServer.keys).to eq([])
      expect(trace).to include("startup", "quiet", "shutdown")
    end
  end

  it "has a socket for its user and group only, replaces a dead one and removes it at the end" do
    SidecarProcess.run(app, env: env) do |sidecar|
      expect(File.stat(sidecar.path).mode & 0o777).to eq(0o660)
      sidecar.signal("KILL")
      wait_until { sidecar.exited? }
      expect(File.exist?(sidecar.path)).to be(true)
      again = SidecarProcess.new(app, bind: "unix://#{sidecar.path}", env: env)
      again.instance_variable_set(:@path, sidecar.path)
      again.start
      rival = SidecarProcess.new(app, bind: "unix://#{sidecar.path}", env: env)
      rival.start(ready: false)
      expect([rival.wait_for_exit, rival.log]).to match([78, /another server answers/])
      again.kill
      expect(File.exist?(sidecar.path)).to be(false)
    end
  end

  it "closes the oldest of the connections that have asked for nothing, and goes on with the others" do
    SidecarProcess.run(app, env: env, files: 128) do |sidecar|
      flood = Array.new(100) { UNIXSocket.new(sidecar.path) }
      wait_until { sidecar.log.include?("32 unsigned clients are connected") }
      turned_away = flood.first(60)
      wait_until { turned_away.all? { |socket| socket.read_nonblock(1, exception: false).nil? } }

      kept = flood.last
      kept.write("GET /health/live HTTP/1.1\r\nHost: sidecar\r\nConnection: close\r\n\r\n")
      expect(kept.read).to start_with("HTTP/1.1 200")
      flood.each(&:close)
      wait_until { sidecar.answers? }
      expect(sidecar.execute(payload)).to match([200, include("status" => "done")])
      metrics = sidecar.request(:get, "/metrics").body
      expect(metrics[/refused_total\{worker="0",code="connections"\} (\d+)/, 1].to_i).to be >= 30
    end
  end

  it "lets a job finish that is running when TERM comes, and answers meanwhile" do
    SidecarProcess.run(app, env: env) do |sidecar|
      waiter = Thread.new { sidecar.execute(payload("class" => "WaitingJob"), delivery: "h:1:a/9") }
      wait_until { trace.include?("started") }
      sidecar.signal("TERM")
      wait_until { sidecar.request(:get, "/health/ready").code == "503" }
      expect(sidecar.execute(payload("jid" => "2"))).to match([503, include("code" => "draining")])
      expect(sidecar.json(:get, "/jobs/h:1:a/9?wait_ms=0", nil, Requests.headers(boot: sidecar.boot)).first).to eq(202)
      release
      expect(waiter.value).to match([200, include("status" => "done")])
      expect(sidecar.wait_for_exit).to eq(0)
    end
  end

  it "gives back a job that outlasts its timeout, and one that holds out even longer" do
    SidecarProcess.run(app, "--timeout", "0", env: env) do |sidecar|
      jobs = %w[WaitingJob StubbornJob].map { |name| Thread.new { sidecar.execute(payload("class" => name, "jid" => name)) } }
      wait_until { trace.count("started") == 2 }
      sidecar.signal("INT")
      expect(jobs.map(&:value)).to all(match([200, include("status" => "shutdown")]))
      expect(sidecar.wait_for_exit).to eq(0)
    end
  end

  it "only drains on TSTP" do
    SidecarProcess.run(app, env: env) do |sidecar|
      sidecar.signal("TSTP")
      wait_until { sidecar.health["status"] == "draining" }
      expect(sidecar.execute(payload)).to match([503, include("code" => "draining")])
      expect(trace).to include("quiet")
      expect(trace).not_to include("shutdown")
      expect(sidecar.log).to match(%r{on\(:quiet\) block in line \d+ of .*fixtures/jobs\.rb runs when the sidecar drains})
    end
  end

  it "stops an iterable job at a checkpoint when it goes down", sidekiq: ">= 7.3" do
    SidecarProcess.run(app, env: env) do |sidecar|
      waiter = Thread.new { sidecar.execute(payload("class" => "CountingJob")) }
      wait_until { trace.size > 3 }
      sidecar.signal("TERM")
      expect(waiter.value).to match([200, include("status" => "interrupted", "payload" => include("CountingJob"))])
      expect(sidecar.wait_for_exit).to eq(0)
    end
  end

  it "answers joins and probes while all its slots are busy" do
    SidecarProcess.run(app, "--threads", "1", env: env) do |sidecar|
      sidecar.execute(payload("class" => "WaitingJob"), delivery: "h:1:a/99", wait_ms: 0)
      joins = Array.new(5) { Thread.new { sidecar.execute(payload("class" => "WaitingJob"), delivery: "h:1:a/99") } }
      expect(sidecar.execute(payload("jid" => "2"))).to match([503, include("code" => "no_slot")])
      expect(sidecar.health["workers"].first).to include("slots" => 1, "busy" => 1)
      release
      expect(joins.map { |join| join.value.last["status"] }).to eq(["done"] * 5)
      expect(trace.count("started")).to eq(1)
    end
  end

  # An error, or an end of the connection before the body was sent.
  def cut_off?
    yield.code.start_with?("4")
  rescue SystemCallError, IOError
    true
  end

  it "takes no body that is larger than its limit, with a length or without" do
    SidecarProcess.run(app, "--max-body", "1000", env: env) do |sidecar|
      headers = Requests.headers(boot: sidecar.boot, delivery: "h:1:a/1")
      expect(sidecar.json(:post, "/jobs/execute", "x" * 1500, headers)).to match([413, include("code" => "too_large")])
      expect(cut_off? { sidecar.request(:post, "/jobs/execute", "x" * 500_000, headers) }).to be(true)
      chunked = headers.merge("Transfer-Encoding" => "chunked")
      expect(sidecar.stream("/jobs/execute", "x" * 1500, chunked).code).to eq("413")
      expect(cut_off? { sidecar.stream("/jobs/execute", "x" * 500_000, chunked) }).to be(true)
      expect(sidecar.execute(payload)).to match([200, include("status" => "done")])
    end
  end

  # Line breaks and escape sequences in a payload forged lines of the log.
  it "writes one line of log for what a payload says, whatever it says" do
    forged = "\n2026-01-01T00:00:00.000Z pid=1 tid=a class=Paid INFO: done\e[2J\u2028"
    texts = {"jid" => "1#{forged}", "display_class" => "A#{forged}", "wrapped" => "B#{forged}", "correlation_id" => "C#{forged}", "tags" => ["D#{forged}"], "bid" => "E#{forged}"}
    SidecarProcess.run(app, env: env) do |sidecar|
      expect(sidecar.execute(payload(texts))).to match([200, include("status" => "done")])
      sidecar.execute(payload(texts.merge("class" => "FailingJob", "args" => [forged], "retry" => 0)))
      sidecar.execute(payload(texts.merge("class" => "No#{forged}")))
      sidecar.execute(payload(texts), correlation_id: "C\u0085\u2028")
      expect(sidecar.log.lines.grep(/\A2026-01-01/)).to eq([])
      expect(sidecar.log.gsub(/\e\[[\d;]*m/, "")).not_to match(/[\e\u0085\u2028]/) # Sidekiq 8 writes levels in colour
    end
  end

  # Each was a traceback in the log and a 500.
  it "answers 400 in one line to a query that Rack cannot read" do
    SidecarProcess.run(app, env: env) do |sidecar|
      before = sidecar.log.lines.size
      ["/health/live?a[a][a]", "/health/live?a=1&a[b]=2", "/health/live?%", "/health/live?a[]=1&a[x]=2", "/metrics?%ff=%fe", "/health/ready?#{"a[" * 200}"].each do |path|
        expect(sidecar.request(:get, path).code).to eq("200").or eq("400")
      end
      ["/jobs/%ff/1", "/jobs/%/1", "/jobs/a%00b/1", "/%c0%ae%c0%ae/", "/jobs/a/%E0%A4%A"].each do |path|
        expect(sidecar.request(:get, path, nil, Requests.headers(boot: sidecar.boot)).code).to start_with("4")
      end
      expect(sidecar.log.lines.size - before).to be <= 11
      expect(sidecar.log).not_to include(".rb:")
    end
  end

  it "wants the shared secret on TCP" do
    port = TCPServer.open("127.0.0.1", 0) { |server| server.addr[1] }
    sidecar = SidecarProcess.new(app, bind: "tcp://127.0.0.1:#{port}", env: env.merge("BRIDGE_SIDECAR_SECRET" => "s3cret"))
    sidecar.start(ready: false)
    http = Net::HTTP.new("127.0.0.1", port)
    wait_until { listening?(port) }
    expect(http.get("/health", Requests.headers).code).to eq("401")
    asked = ->(boot) { JSON.parse(http.get("/health", Requests.signed(Requests.headers(boot: boot), "s3cret", "GET", "/health", "")).body) }
    expect(asked.call(nil)).to include("code" => "misdirected")
    health = asked.call(asked.call(nil)["boot"])
    headers = Requests.headers(boot: health["boot"], delivery: "h:1:a/1")
    expect(JSON.parse(http.post("/jobs/execute", payload, headers).body)).to include("code" => "unsigned")
    signed = Requests.signed(headers, "s3cret", "POST", "/jobs/execute", payload)
    expect(JSON.parse(http.post("/jobs/execute", payload, signed).body)).to include("status" => "done")
    expect(JSON.parse(http.post("/jobs/execute", payload, signed).body)).to include("code" => "replay")
    expect(sidecar.log).not_to include("s3cret")
  ensure
    sidecar.kill
  end

  describe "with several workers" do
    def workers(sidecar) = sidecar.health["workers"]

    def path(worker) = worker["url"].delete_prefix("unix://")

    it "gives each an address and a boot id, and lists them all on any" do
      SidecarProcess.run(app, "--workers", "2", env: env) do |sidecar|
        both = wait_until { workers(sidecar).then { |list| list if list.size == 2 } }
        expect(both.map { |worker| path(worker) }).to eq(["#{sidecar.path}.0", "#{sidecar.path}.1"])
        both.each_with_index do |worker, index|
          expect(sidecar.execute(payload("jid" => index.to_s), boot: worker["boot"], socket: path(worker))).to match([200, include("status" => "done")])
        end
        expect(sidecar.execute(payload, boot: both[0]["boot"], socket: path(both[1]))).to match([421, include("boot" => both[1]["boot"])])
        expect(trace.count("startup")).to eq(2)
        sidecar.signal("TERM")
        expect(sidecar.wait_for_exit).to eq(0)
        expect(Dir.children(File.dirname(sidecar.path)).grep(/sock/)).to eq([])
        expect(trace.count("shutdown")).to eq(2)
      end
    end

    it "drains them all when one is asked" do
      SidecarProcess.run(app, "--workers", "2", env: env) do |sidecar|
        both = wait_until { workers(sidecar).then { |list| list if list.size == 2 } }
        sidecar.request(:post, "/drain", "", Requests.headers(boot: both[0]["boot"]), socket: path(both[0]))
        wait_until { sidecar.request(:get, "/health/ready", socket: path(both[1])).code == "503" }
      end
    end

    it "replaces one that dies, under a new boot id" do
      SidecarProcess.run(app, "--workers", "2", env: env) do |sidecar|
        both = wait_until { workers(sidecar).then { |list| list if list.size == 2 } }
        Process.kill("KILL", both[1]["pid"])
        wait_until { workers(sidecar).any? { |worker| worker["index"] == 1 && worker["boot"] != both[1]["boot"] } }
      end
    end

    it "ends them when their master is gone" do
      SidecarProcess.run(app, "--workers", "2", env: env) do |sidecar|
        both = wait_until { workers(sidecar).then { |list| list if list.size == 2 } }
        sidecar.signal("KILL")
        wait_until { both.none? { |worker| alive?(worker["pid"]) } }
      end
    end

    def alive?(pid)
      !File.read("/proc/#{pid}/stat").match?(/\) Z /)
    rescue Errno::ENOENT
      false
    end
  end
end

RSpec.describe "The second address of a sidecar" do
  def get(path, method: :Get) = Net::HTTP.start("127.0.0.1", port) { |http| http.request(Net::HTTP.const_get(method).new(path)) }

  let(:port) { TCPServer.open("127.0.0.1", 0) { |server| server.addr[1] } }

  [[], %w[--workers 2]].each do |arguments|
    it "has probes and metrics, and no way to the jobs #{arguments.join(" ")}" do
      SidecarProcess.run(SETTINGS.app, "--metrics-bind", "tcp://127.0.0.1:#{port}", *arguments) do |sidecar|
        expect(%w[/health/live /health/ready /metrics].map { |path| get(path).code }).to eq(%w[200 200 200])
        expect(get("/metrics").body).to include("bridge_sidecar_slots")
        expect(%w[/health /jobs/a/1 /metrics/x].map { |path| get(path).code }).to eq(%w[404 404 404])
        expect(%w[/jobs/execute /jobs/stream /drain /metrics].map { |path| get(path, method: :Post).code }).to eq(%w[404] * 4)
        sidecar.signal("TSTP")
        wait_until { get("/health/ready").code == "503" }
        sidecar.signal("TERM")
        expect(sidecar.wait_for_exit).to eq(0)
      end
    end
  end
end
