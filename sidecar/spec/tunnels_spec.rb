# frozen_string_literal: true

require_relative "spec_helper"
require "support/stream_client"

# One open port reaches every Puma worker. Each once had the next port of its own: a busy one ended the start, and across
# machines a firewall had to let all of them through.
RSpec.describe "A sidecar of several workers on one port" do
  let(:directory) { Dir.mktmpdir("sidecar-trace-") }
  let(:env) { {"TRACE_FILE" => File.join(directory, "trace"), "RELEASE_FILE" => File.join(directory, "release"), "BRIDGE_SIDECAR_SECRET" => "s3cret"} }
  let(:workers) { wait_until("both workers") { health["workers"].then { |list| list if list.size == 2 } } }

  # The ports beside the sidecar's belong to others, which accept and never answer.
  around do |example|
    @neighbours = []
    @port, *@neighbours = three_ports
    @sidecar = SidecarProcess.new(SETTINGS.app, "--workers", "2", bind: "tcp://127.0.0.1:#{@port}", env: env)
    @sidecar.start(ready: false)
    wait_until("the sidecar: #{@sidecar.log}") { raise @sidecar.log if @sidecar.exited?; @sidecar.log.include?("Sidecar ready on tcp://127.0.0.1:#{@port}, 2 workers") }
    example.run
  ensure
    @sidecar.kill
    @neighbours.each(&:close)
    FileUtils.remove_entry(directory)
  end

  # Below the ports that the system gives to clients.
  def three_ports
    port = TCPServer.open("127.0.0.1", rand(20_000..31_000)) { |server| server.addr[1] }
    [port, TCPServer.new("127.0.0.1", port + 1), TCPServer.new("127.0.0.1", port + 2)]
  rescue Errno::EADDRINUSE
    retry
  end

  def trace = File.exist?(env["TRACE_FILE"]) ? File.readlines(env["TRACE_FILE"]).map { |line| JSON.parse(line) } : []

  def call(method, path, body = "", http: Net::HTTP.new("127.0.0.1", @port), **headers)
    signed = Requests.signed(Requests.headers(**headers), "s3cret", method.to_s.upcase, path, body)
    request = Net::HTTP.const_get(method.capitalize).new(path, signed)
    response = http.request(request, (body unless method == :get))
    [response.code.to_i, JSON.parse(response.body)]
  end

  # A connection stays with one worker, which says who it is when it is asked for another.
  def health
    Net::HTTP.start("127.0.0.1", @port) do |http|
      _, named = call(:get, "/health", http: http)
      call(:get, "/health", http: http, boot: named["boot"]).last
    end
  end

  def execute(boot, number, job = {}, **options)
    call(:post, "/jobs/execute", payload({"jid" => number.to_s}.merge(job)), boot: boot, delivery: "h:1:a/#{number}", **options)
  end

  it "lists the one address for both" do
    expect(workers.map { |worker| worker["url"] }).to eq(["tcp://127.0.0.1:#{@port}"] * 2)
    expect(workers.first.keys).not_to include("socket")
  end

  it "runs each job in the worker that was meant, whichever accepted the connection" do
    boots = workers.map { |worker| worker["boot"] }
    40.times { |number| expect(execute(boots[number % 2], number)).to match([200, include("status" => "done")]) }
    # The worker that ran a job remembers it, and the other one does not.
    40.times do |number|
      expect(call(:get, "/jobs/h:1:a/#{number}?wait_ms=0", boot: boots[number % 2]).first).to eq(200)
      expect(call(:get, "/jobs/h:1:a/#{number}?wait_ms=0", boot: boots[1 - number % 2]).first).to eq(404)
    end
  end

  it "keeps a connection with one worker, and carries large bodies both ways" do
    boot = workers.last["boot"]
    8.times do |connection|
      Net::HTTP.start("127.0.0.1", @port) do |http|
        3.times do |number|
          large = payload("class" => "FailingJob", "args" => ["x" * 3_000_000], "jid" => "#{connection}-#{number}")
          expect(call(:post, "/jobs/execute", large, http: http, boot: boot, delivery: "h:#{connection}:a/#{number}")).to match([200, include("status" => "failed")])
        end
      end
    end
  end

  it "carries streams, and answers what runs when TERM comes" do
    streams = workers.flat_map { |worker| Array.new(4) { StreamClient.new(TCPSocket.new("127.0.0.1", @port), boot: worker["boot"], secret: "s3cret") } }
    expect(streams).to all(be_accepted)
    expect(streams.zip(workers.flat_map { |worker| [worker["boot"]] * 4 }).map { |stream, boot| stream.headers["x-bridge-boot"] == boot }).to all(be(true))
    expect(streams.map { |stream| stream.execute(payload("jid" => stream.object_id.to_s)).last["status"] }).to all(eq("done"))
    running = [streams.first, streams.last].map.with_index { |stream, index| [stream, stream.send_job(payload("class" => "WaitingJob", "jid" => "w#{index}"))] }
    wait_until { trace.count("started") == 2 }
    @sidecar.signal("TERM")
    FileUtils.touch(env["RELEASE_FILE"])
    running.each { |stream, id| expect(stream.reply(id)).to match([200, include("status" => "done")]) }
    expect(streams).to all(be_ended_in_order)
    streams.each(&:close)
    expect(@sidecar.wait_for_exit).to eq(0)
  end

  it "answers 421 for a worker that has gone, and for a stranger 401" do
    gone, stays = workers.map { |worker| worker.slice("boot", "pid") }
    Process.kill("KILL", gone["pid"])
    wait_until { health["workers"].none? { |worker| worker["boot"] == gone["boot"] } }
    10.times { |number| expect(execute(gone["boot"], number)).to match([421, include("code" => "misdirected")]) }
    10.times { |number| expect(execute(stays["boot"], 100 + number).first).to eq(200) }
    answers = Array.new(10) { Net::HTTP.new("127.0.0.1", @port).post("/jobs/execute", "{}", Requests.headers(boot: stays["boot"])).code }
    expect(answers).to all(eq("401"))
  end

  it "does not take a worker that hangs for dead: its client must wait" do
    hung, well = workers
    Process.kill("STOP", hung["pid"])
    http = Net::HTTP.new("127.0.0.1", @port)
    http.read_timeout = 1
    http.max_retries = 0
    3.times { |number| expect { execute(hung["boot"], number, http: http) }.to raise_error(Net::ReadTimeout) }
    expect(execute(well["boot"], 10).first).to eq(200)
    expect(health["status"]).to eq("ready")
  ensure
    Process.kill("CONT", hung["pid"])
  end
end
