# frozen_string_literal: true

require "json"
require "socket"
require "timeout"
require "support/requests"

# The worker's side of POST /jobs/stream, on any socket.
class StreamClient
  PATIENCE_SECONDS = 20

  attr_reader :socket, :status, :headers, :asked

  def self.unix(path, **options) = new(UNIXSocket.new(path), **options)

  def initialize(socket, boot:, secret: nil, headers: {})
    @socket = socket
    @id = 0
    @replies = {}
    @asked = request_headers(boot, secret).merge(headers)
    ask(@asked)
    seal(secret, boot) if secret && accepted?
  end

  def accepted? = status == 101

  # The id of the frame; its reply is asked for later.
  def send_job(payload, **options) = (@id + 1).tap { write(frame(payload, **options)) }

  # A frame's bytes, for those that want to cut or join them.
  def frame(payload, delivery: nil, claimed_at: 1, recovered: 0, queue: "default", bytes: payload.bytesize)
    @id += 1
    identity, token = (delivery || "h:1:s#{object_id}/#{@id}").split("/")
    sealed("E #{@id} #{bytes} #{identity} #{token} #{claimed_at} #{recovered} #{queue}", payload)
  end

  def probe
    @id += 1
    write(sealed("P #{@id} 0"))
    reply(@id)
  end

  def execute(payload, **options) = reply(send_job(payload, **options))

  # Status and body of the reply, the body parsed if there is one.
  def reply(id)
    Timeout.timeout(PATIENCE_SECONDS) { read_reply until @replies.key?(id) }
    @replies.delete(id)
  end

  # The bytes of a frame, with its code where there is a secret.
  def sealed(line, body = "")
    code = "#{tag(@sending, @sent, line, body)} " if @sending
    @sent += 1 if @sending
    "#{code}#{line}\n".b + body.b
  end

  def write(bytes)
    socket.write(bytes)
    socket.flush
  end

  def ended?
    Timeout.timeout(PATIENCE_SECONDS) { socket.read(1).nil? }
  rescue Errno::ECONNRESET, Errno::EPIPE
    true
  end

  # It ends in order: all frames that have no reply get one together.
  def ended_in_order? = reply(0).first == 503 && ended?

  def close = socket.close

  private

  # Written out here once more: what the gem does must be what the protocol says.
  def seal(secret, boot)
    text = "bridge-v2-stream\n#{@asked["X-Bridge-Nonce"]}\n#{headers.fetch("x-bridge-nonce")}\n#{boot}"
    key = OpenSSL::HMAC.digest("SHA256", secret, text)
    @sending, @receiving = %w[worker sidecar].map { |name| OpenSSL::HMAC.digest("SHA256", key, name) }
    @sent = @received = 0
  end

  def tag(key, number, line, body) = OpenSSL::HMAC.hexdigest("SHA256", key, "#{number} #{line}\n".b + body.b)[0, 32]

  def request_headers(boot, secret)
    headers = Requests.headers(boot: boot)
    headers = Requests.signed(headers, secret, "POST", "/jobs/stream", "") if secret
    {"Host" => "sidecar", "Connection" => "Upgrade", "Upgrade" => "bridge-jobs"}.merge(headers)
  end

  def ask(headers)
    write("POST /jobs/stream HTTP/1.1\r\n#{headers.compact.map { |name, value| "#{name}: #{value}\r\n" }.join}\r\n")
    @status = socket.gets[/\AHTTP\/1.1 (\d+)/, 1].to_i
    @headers = {}
    while (line = socket.gets("\r\n")&.chomp) && !line.empty?
      name, value = line.split(": ", 2)
      @headers[name.downcase] = value
    end
  end

  def read_reply
    line = socket.gets.chomp
    code, line = line.split(" ", 2) if @receiving
    id, status, bytes = line.split.map { |word| Integer(word) }
    body = socket.read(bytes)
    check(code, line, body) if @receiving
    @replies[id] = [status, body.empty? ? nil : JSON.parse(body)]
  end

  def check(code, line, body)
    raise "a frame of the sidecar has a wrong code" unless code == tag(@receiving, @received, line, body)
    @received += 1
  end
end
