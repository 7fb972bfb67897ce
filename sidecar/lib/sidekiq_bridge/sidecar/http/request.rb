# frozen_string_literal: true

require "openssl"
require "stringio"
require "sidekiq_bridge/sidecar/errors"
require "sidekiq_bridge/sidecar/execution/delivery"
require "sidekiq_bridge/sidecar/percent"
require "sidekiq_bridge/sidecar/sidekiq/trace_context"

module SidekiqBridge
  module Sidecar
    # One HTTP request in the words of the protocol.
    class Request
      TRACE_HEADERS = TraceContext::HEADERS.to_h { |name| [name, "HTTP_#{name.upcase}"] }.freeze
      SIGNED_PREFIX = "HTTP_X_BRIDGE_"
      # Rack's key of the raw query, which Sinatra does not parse.
      QUERY = "bridge.query"
      SIGNATURE = "HTTP_X_BRIDGE_SIGNATURE"
      # Built once: turning Rack's names back into headers would cost more than the HMAC itself.
      SIGNED_NAMES = %w[attempt boot claimed-at content-sha256 correlation-id delivery if-known nonce protocol queue recovered timestamp track wait-ms]
        .to_h { |name| ["#{SIGNED_PREFIX}#{name.upcase.tr("-", "_")}", "x-bridge-#{name}"] }.freeze
      MAX_WAIT_MS = 30_000
      LEASE_MS = 1_000..86_400_000
      CHUNK_BYTES = 64 * 1024
      # Key in Rack's environment: the secret that signed the request, once known.
      SIGNED_WITH = "bridge.signed_with"
      NONCE = "HTTP_X_BRIDGE_NONCE"
      # Key in Rack's environment: true if the header's signature was valid before the server read the body.
      HEAD_CHECKED = "bridge.head_checked"

      def initialize(env, max_body:)
        @env = env
        @max_body = max_body
      end

      def protocol = @env["HTTP_X_BRIDGE_PROTOCOL"]

      def boot = @env["HTTP_X_BRIDGE_BOOT"]

      # The worker, and the number of the delivery among its own.
      def identity = delivery.first

      def token = delivery.last

      def signature = @env[SIGNATURE]

      def nonce = @env[NONCE]

      # The digest of the body that the signature covers.
      def content_hash = @env["HTTP_X_BRIDGE_CONTENT_SHA256"]

      def signed_with = @env[SIGNED_WITH]

      def signed_with=(secret)
        @env[SIGNED_WITH] = secret
      end

      def head_checked? = @env.key?(HEAD_CHECKED)

      def head_checked
        @env[HEAD_CHECKED] = true
      end

      def timestamp = @env["HTTP_X_BRIDGE_TIMESTAMP"]

      def correlation_id = text("HTTP_X_BRIDGE_CORRELATION_ID")

      def recovered = @env["HTTP_X_BRIDGE_RECOVERED"].to_i

      # A job of a request brings all that a worker may want.
      def plain? = false

      # True if a worker looks for the run of its job: the job may be joined, but not started.
      def only_if_known? = @env["HTTP_X_BRIDGE_IF_KNOWN"] == "1"

      # True if the worker wants what the job returns.
      def tracked? = @env["HTTP_X_BRIDGE_TRACK"] == "1"

      # True if the worker wants what the job returns, and the job is not tracked: a shadow of a move compares it.
      def valued? = @env["HTTP_X_BRIDGE_TRACK"] == "value"

      # Seconds for which a silent worker keeps its lease; nil for a job whose code is in Ruby.
      def python_lease
        code = @env["HTTP_X_BRIDGE_BODY"] or return
        raise Refusals.protocol("X-Bridge-Body must be python") unless code == "python"
        Integer(@env["HTTP_X_BRIDGE_LEASE_MS"], 10).clamp(LEASE_MS) / 1000.0
      rescue ArgumentError, TypeError
        raise Refusals.protocol("X-Bridge-Lease-Ms must be integer milliseconds")
      end

      def queue
        value = @env["HTTP_X_BRIDGE_QUEUE"]
        value && Percent.decode(value)
      end

      def upgrade?(protocol)
        @env["HTTP_UPGRADE"].to_s.casecmp?(protocol) && @env["HTTP_CONNECTION"].to_s.split(/\s*,\s*/).any? { |word| word.casecmp?("upgrade") }
      end

      def claimed_at_ms
        Integer(@env["HTTP_X_BRIDGE_CLAIMED_AT"], 10)
      rescue ArgumentError, TypeError
        raise Refusals.protocol("X-Bridge-Claimed-At must be integer milliseconds")
      end

      def wait_seconds
        wanted = @env["HTTP_X_BRIDGE_WAIT_MS"] || query["wait_ms"] || MAX_WAIT_MS
        wanted.to_i.clamp(0, MAX_WAIT_MS) / 1000.0
      end

      def trace
        found = TRACE_HEADERS.filter_map { |name, key| [name, text(key)] if @env[key] }
        found.to_h unless found.empty?
      end

      # Reads in pieces, so that a body without a length cannot fill the memory.
      def body
        @body ||= read_body
      end

      def body_digest
        @body_digest ||= OpenSSL::Digest::SHA256.hexdigest(body)
      end

      def signed_text
        @signed_text ||= ["bridge-v2", @env["REQUEST_METHOD"], target, *signed_lines].join("\n")
      end

      private

      def delivery
        @delivery ||= Delivery.parts(text("HTTP_X_BRIDGE_DELIVERY")) || raise(Refusals.protocol("X-Bridge-Delivery must be <identity>/<token>"))
      end

      # Headers are bytes; logs and JSON need valid text.
      def text(key) = @env[key]&.dup&.force_encoding(Encoding::UTF_8)&.scrub

      # Sorts by name, not by line: a colon sorts after a hyphen.
      def signed_lines
        headers = {}
        @env.each { |key, value| headers[signed_name(key)] = value if key.start_with?(SIGNED_PREFIX) && key != SIGNATURE }
        headers.keys.sort.map { |name| "#{name}:#{headers[name]}" }
      end

      def signed_name(key) = SIGNED_NAMES[key] || key.delete_prefix("HTTP_").downcase.tr("_", "-")

      # Returns the target as sent, if the server keeps it.
      def target
        return @env["REQUEST_URI"] if @env["REQUEST_URI"]
        query_string.empty? ? @env["PATH_INFO"] : "#{@env["PATH_INFO"]}?#{query_string}"
      end

      def read_body
        raise Refusals.too_large(@max_body) if @env["CONTENT_LENGTH"].to_i > @max_body
        input = @env["rack.input"]
        return +"" unless input
        (input.is_a?(StringIO) && input.pos.zero? && input.size <= @max_body) ? input.string : read_pieces(input)
      end

      def read_pieces(input)
        body = +"".b
        while (piece = input.read(CHUNK_BYTES))
          body << piece
          raise Refusals.too_large(@max_body) if body.bytesize > @max_body
        end
        body
      end

      def query_string = (@env[QUERY] || @env["QUERY_STRING"]).to_s

      def query
        URI.decode_www_form(query_string).to_h
      rescue ArgumentError
        raise Refusals.protocol("the query is not made of name=value pairs")
      end
    end
  end
end
