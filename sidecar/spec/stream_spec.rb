# frozen_string_literal: true

require_relative "spec_helper"
require "sidekiq_bridge/sidecar/http/listener"
require "support/stream_client"

RSpec.describe "POST /jobs/stream" do
  let(:directory) { Dir.mktmpdir("sidecar-stream-") }
  let(:path) { File.join(directory, "s.sock") }
  let(:env) { {} }
  let(:settings) { SidekiqBridge::Sidecar::Settings.new({app: SETTINGS.app, bind: "unix://#{path}", threads: 3, max_body: 100_000, timeout: 5, environment: "test"}, env) }
  let(:listener) { SidekiqBridge::Sidecar::Listener.new(settings.address).open }
  let!(:worker) { SidekiqBridge::Sidecar::JobServer.new(settings, listeners: [listener]).tap(&:start) }
  let(:boot) { worker.worker_state.to_h["boot"] }
  let(:stream) { open_stream }

  before { Trace.clear } # of :startup

  after do
    Trace.release
    @clients&.each(&:close)
    worker.stop
    FileUtils.remove_entry(directory)
  end

  def open_stream(**options)
    StreamClient.unix(path, boot: boot, **options).tap { |client| (@clients ||= []) << client }
  end

  def execute(payload, delivery:, **more)
    http = UnixHttp.to(path)
    headers = Requests.headers(boot: boot, delivery: delivery, **more)
    response = http.start { http.request(Net::HTTP::Post.new("/jobs/execute", headers), payload) }
    [response.code.to_i, JSON.parse(response.body)]
  end

  def waiting(jid = "w", **fields) = payload("class" => "WaitingJob", "jid" => jid, **fields)

  def started(count = 1) = wait_until("#{count} jobs to start") { Trace.entries.count(:started) == count }

  def open_streams = worker.worker_state.to_h["streams"]

  describe "the request" do
    def refused(**options)
      client = open_stream(**options)
      [client.status, JSON.parse(client.socket.read(client.headers["content-length"].to_i))["code"]]
    end

    it "is answered with 101 and the boot id" do
      expect([stream.status, stream.headers]).to eq([101, {"connection" => "Upgrade", "upgrade" => "bridge-jobs", "x-bridge-boot" => boot}])
    end

    it "is refused as a job would be" do
      expect(refused(headers: {"X-Bridge-Protocol" => "1"})).to eq([400, "protocol"])
      expect(refused(headers: {"X-Bridge-Boot" => "other"})).to eq([421, "misdirected"])
      worker.drain
      expect(refused).to eq([503, "draining"])
    end

    it "must ask for this protocol" do
      expect(refused(headers: {"Upgrade" => "websocket"})).to eq([400, "protocol"])
      expect(refused(headers: {"Connection" => "keep-alive"})).to eq([400, "protocol"])
      expect(open_stream(headers: {"Connection" => "keep-alive, upgrade"})).to be_accepted
    end

    it "is 404 where the server cannot hand over its connection" do
      env = {"REQUEST_METHOD" => "POST", "PATH_INFO" => "/jobs/stream", "HTTP_X_BRIDGE_PROTOCOL" => "2", "HTTP_X_BRIDGE_BOOT" => boot}
      expect(worker.app.call(env).first).to eq(404)
    end

    context "with a secret" do
      let(:env) { {"BRIDGE_SIDECAR_SECRET" => "s3cret"} }

      it "must be signed" do
        expect(refused).to eq([401, "unsigned"])
        expect(refused(secret: "wrong")).to eq([401, "signature"])
        expect(open_stream(secret: "s3cret").execute(payload)).to match([200, include("status" => "done")])
      end

      it "proves in its answer that it knows the secret too" do
        client = open_stream(secret: "s3cret")
        expect(client.headers["x-bridge-signature"]).to eq(
          Requests.reply_signature("s3cret", client.asked["X-Bridge-Nonce"], 101, "", client.headers)
        )
      end

      # A relay without the secret let worker and sidecar greet each other and wrote frames of its own: its job ran.
      it "runs no frame that the worker did not write, in that order, once" do
        attacks = {
          "written" => ->(client) { client.frame(payload).sub(/\A\h{32}/, "0" * 32) },
          "without a code" => ->(client) { client.frame(payload)[33..] },
          "changed" => ->(client) { client.frame(payload).sub("TracingJob", "WaitingJob") },
          "sent to another queue" => ->(client) { client.frame(payload).sub(" default\n", " deFault\n") },
          "repeated" => ->(client) { client.frame(payload("class" => "WaitingJob")).tap { |frame| client.write(frame) } },
          "with one missing before" => ->(client) { client.frame(payload) && client.frame(payload) },
          "of another stream" => ->(_) { open_stream(secret: "s3cret").frame(payload) }
        }
        attacks.each do |name, attack|
          client = open_stream(secret: "s3cret")
          client.write(attack.call(client))
          expect(client).to be_ended, name
        end
        expect(Trace.entries - [:started]).to be_empty
      end

      it "knows a frame that is too large by its code as well" do
        client = open_stream(secret: "s3cret")
        expect(client.execute("x" * 100_001)).to match([413, include("code" => "too_large")])
        client.write(client.frame("x" * 100_001).sub(/x\z/, "y"))
        expect(client).to be_ended
      end
    end
  end

  it "answers with the outcome, the same to the letter as /jobs/execute" do
    {"TracingJob" => "done", "FailingJob" => "failed"}.each_with_index do |(name, status), index|
      reply = stream.execute(payload("class" => name, "jid" => name), delivery: "h:1:a/#{index}")
      expect(reply).to match([200, include("status" => status, "jid" => name, "delivery" => "h:1:a/#{index}")])
      expect(execute(payload, delivery: "h:1:a/#{index}")).to eq(reply)
    end
  end

  it "answers each job when it has ended, whatever came before" do
    slow = stream.send_job(waiting)
    started
    expect(stream.execute(payload)).to match([200, include("status" => "done")])
    Trace.release
    expect(stream.reply(slow)).to match([200, include("jid" => "w")])
  end

  it "runs as many at a time as there are slots, from one write" do
    jobs = Array.new(3) { |index| stream.frame(waiting(index.to_s)) }
    stream.write(jobs.join)
    started(3)
    expect(stream.execute(payload("jid" => "4"))).to match([503, include("code" => "no_slot")])
    Trace.release
    expect((1..3).map { |id| stream.reply(id).last["status"] }).to eq(["done"] * 3)
  end

  it "answers a probe without a body, also while all slots are busy" do
    3.times { |index| stream.send_job(waiting(index.to_s)) }
    started(3)
    expect(stream.probe).to eq([200, nil])
  end

  it "survives thousands of jobs, some at a time" do
    ids = []
    2000.times do |index|
      ids << stream.send_job(payload("jid" => index.to_s))
      expect(stream.reply(ids.shift).first).to eq(200) if ids.size == 3
    end
    ids.each { |id| expect(stream.reply(id).first).to eq(200) }
    expect(Trace.entries.size).to eq(2000)
  end

  describe "a refusal" do
    it "is for one frame, and the stream goes on" do
      expect(stream.execute("{")).to match([400, include("code" => "malformed")])
      expect(stream.execute("")).to match([400, include("code" => "malformed")])
      expect(stream.execute(payload("class" => "NotAJob"))).to match([422, include("code" => "refused")])
      expect(stream.execute("x" * 100_001)).to match([413, include("code" => "too_large")])
      expect(stream.execute(payload("jid" => "last"))).to match([200, include("status" => "done")])
    end

    it "tells of other deliveries of the job" do
      stream.send_job(waiting, delivery: "h:1:a/5")
      started
      expect(stream.execute(waiting, delivery: "h:1:a/6")).to match([409, include("code" => "running")])
      expect(stream.execute(waiting, delivery: "h:1:a/4")).to match([409, include("code" => "superseded")])
    end

    it "comes when the sidecar drains, but what runs is joined" do
      running = stream.send_job(waiting, delivery: "h:1:a/1")
      started
      worker.drain
      expect(stream.execute(payload)).to match([503, include("code" => "draining")])
      joined = stream.send_job(waiting, delivery: "h:1:a/1")
      Trace.release
      expect([running, joined].map { |id| stream.reply(id).last["status"] }).to eq(%w[done done])
    end

    it "hides what went wrong on this side" do
      allow(worker.executor).to receive(:join).and_raise("a secret")
      expect(stream.execute(payload)).to match([500, {"code" => "internal", "message" => String}])
    end
  end

  describe "joining" do
    it "holds between streams, and between a stream and requests" do
      first = stream.send_job(waiting, delivery: "h:1:a/1")
      started
      other = open_stream
      second = other.send_job("not looked at", delivery: "h:1:a/1")
      request = Thread.new { execute(waiting, delivery: "h:1:a/1") }
      expect(other.probe).to eq([200, nil])
      Trace.release
      expect([stream.reply(first), other.reply(second), request.value]).to all(match([200, include("delivery" => "h:1:a/1")]))
      expect(stream.execute("", delivery: "h:1:a/1")).to eq(request.value)
      expect(Trace.entries).to eq(%i[started finished])
    end

    it "of a job that came by a request" do
      execute(waiting, delivery: "h:1:a/1", wait_ms: 0)
      started
      joined = stream.send_job(waiting, delivery: "h:1:a/1")
      Trace.release
      expect(stream.reply(joined)).to match([200, include("status" => "done")])
    end

    it "takes over after a recovery: the older delivery is told at once, the newer gets the outcome" do
      older = stream.send_job(waiting, claimed_at: 1)
      started
      newer = open_stream
      id = newer.send_job(waiting, delivery: "h:1:b/1", claimed_at: 2, recovered: 1)
      expect(stream.reply(older)).to match([409, include("code" => "superseded")])
      Trace.release
      expect(newer.reply(id)).to match([200, include("delivery" => "h:1:b/1")])
      expect(stream.probe).to eq([200, nil])
    end
  end

  describe "the end of a stream" do
    it "leaves its jobs running, and their records answer" do
      stream.send_job(waiting, delivery: "h:1:a/1")
      started
      stream.close
      wait_until("the stream to be gone") { open_streams.zero? }
      expect(execute(waiting, delivery: "h:1:a/1", wait_ms: 0).first).to eq(202)
      Trace.release
      expect(execute(waiting, delivery: "h:1:a/1")).to match([200, include("status" => "done")])
      expect(Trace.entries).to eq(%i[started finished])
    end

    it "in the middle of a frame starts nothing" do
      frame = stream.frame(payload)
      stream.write(frame[0...-1])
      stream.close
      wait_until("the stream to be gone") { open_streams.zero? }
      expect(worker.worker_state.to_h).to include("busy" => 0, "jobs" => include("done" => 0))
    end

    it "follows a line that is not understood, with a word in the log" do
      log = []
      allow(Sidekiq.logger).to receive(:warn) { |*, &block| log << block.call }
      stream.write("what?\n")
      expect(stream).to be_ended
      expect(log).to match([/Ended a stream/])
    end

    # Jobs that came into a closing stream never started, and the worker counted them as orphaned.
    it "of a sidecar that stops begins with the reply to all frames that have none" do
      running = stream.send_job(waiting, delivery: "h:1:a/1")
      started
      stopping = Thread.new { worker.stop }
      wait_until("it to drain") { worker.executor.draining? }
      expect(stream.execute(payload)).to match([503, include("code" => "draining")])
      Trace.release
      expect(stream.reply(running)).to match([200, include("status" => "done")])
      expect(stream.reply(0)).to match([503, include("code" => "draining")])
      expect(stream).to be_ended
      stopping.join
    end

    it "comes when its worker was silent long enough to have had its jobs started elsewhere" do
      stub_const("SidekiqBridge::Sidecar::Stream::SILENT_SECONDS", 0.3)
      expect(stream.probe).to eq([200, nil])
      sleep 0.5
      stream.send_job(waiting, delivery: "h:1:a/1")
      expect(stream).to be_ended
      expect(Trace.entries).to be_empty
      expect(open_stream.execute(payload)).to match([200, include("status" => "done")])
    end

    it "is counted" do
      stream
      expect(open_streams).to eq(1)
      http = UnixHttp.to(path)
      expect(http.start { http.get("/metrics").body }).to include('bridge_sidecar_open_streams{worker="0"} 1')
    end
  end

  describe "a peer that does not read" do
    # Sends probes until the other side takes no more.
    def stuff(client)
      bytes = "P 999 0\n" * 1000
      sent = 0
      while client.socket.wait_writable(0.2)
        written = client.socket.write_nonblock(bytes, exception: false)
        sent += written if written.is_a?(Integer)
      end
      sent
    end

    it "has no more frames taken, and does not disturb other streams" do
      stub_const("SidekiqBridge::Sidecar::StreamWriter::ROOM_BYTES", 10_000)
      running = stream.send_job(waiting)
      started
      sent = stuff(stream)
      expect(sent).to be < 10_000_000
      other = open_stream
      expect(other.execute(payload, delivery: "h:1:o/1")).to match([200, include("status" => "done")])
      Trace.release
      wait_until("the slot to be free") { worker.executor.busy.zero? }
      expect(stream.reply(running)).to match([200, include("status" => "done")])
    end

    it "gets everything once it reads" do
      stub_const("SidekiqBridge::Sidecar::StreamWriter::ROOM_BYTES", 10_000)
      sent = stuff(stream)
      sent += stream.socket.write("P 999 0\n"[(sent % 8)..])
      (sent / 8).times { expect(stream.socket.gets).to eq("999 200 0\n") }
    end

    it "does not keep the sidecar from stopping" do
      stub_const("SidekiqBridge::Sidecar::Streams::FLUSH_SECONDS", 0.1)
      stub_const("SidekiqBridge::Sidecar::StreamWriter::ROOM_BYTES", 10_000)
      stuff(stream)
      worker.stop
      expect(open_streams).to eq(0)
    end
  end

  it "writes in pieces what the peer takes in pieces" do
    text = "long " * 100_000
    ids = Array.new(3) { |index| stream.send_job(payload("class" => "FailingJob", "args" => ["#{index} #{text}"[0, 90_000]], "jid" => index.to_s)) }
    ids.each_with_index { |id, index| expect(stream.reply(id).last["error"]["message"]).to start_with("#{index} long") }
  end

  it "keeps connections over TCP alive" do
    TCPServer.open("127.0.0.1", 0) do |server|
      TCPSocket.open("127.0.0.1", server.addr[1]) do
        socket = server.accept
        SidekiqBridge::Sidecar::StreamSocket.for(socket)
        expect(socket.getsockopt(Socket::SOL_SOCKET, Socket::SO_KEEPALIVE).bool).to be(true)
      end
    end
  end
end
