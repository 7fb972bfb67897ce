# frozen_string_literal: true

require "sidekiq_bridge/sidecar/version"

module SidekiqBridge
  # Raised inside a job whose deadline has passed. Not a StandardError: a plain `rescue` in a job must not swallow it.
  class DeadlineExceeded < Exception # rubocop:disable Lint/InheritException
    def self.name = "Bridge::DeadlineExceeded"
  end

  # Raised inside a job that was revoked.
  class Cancelled < Exception # rubocop:disable Lint/InheritException
    def self.name = "Bridge::Cancelled"
  end

  # A job ended its own thread (Thread.current.kill), so this exception reports the failure.
  class ThreadKilled < Exception # rubocop:disable Lint/InheritException
    def self.name = "Bridge::ThreadKilled"
  end

  # The Python code of a job failed. Each Python class has a subclass with its name here: `sidekiq_retry_in`, error
  # trackers and the retry and dead sets see "ValueError", and `rescue SidekiqBridge::PythonError` sees them all.
  class PythonError < StandardError
    MOST_CLASSES = 1000
    @lock = Mutex.new
    @named = {}

    class << self
      def of(name, message, backtrace)
        named(name).new(message).tap { |error| error.set_backtrace(backtrace) unless backtrace.empty? }
      end

      private

      def named(name)
        @lock.synchronize { @named[name] ||= (@named.size < MOST_CLASSES) ? subclass(name) : self }
      end

      def subclass(name)
        Class.new(self) { %i[name to_s inspect].each { |method| define_singleton_method(method) { name } } }
      end
    end
  end

  # A job died because its workers died: the dead set has the reason.
  class PoisonPill < StandardError
    def self.name = "Bridge::PoisonPill"
  end

  # A job died because neither side may run it.
  class JobRefused < StandardError
    def self.name = "Bridge::JobRefused"
  end

  # A payload is JSON, but not a job.
  class InvalidPayload < StandardError
    def self.name = "Bridge::InvalidPayload"
  end

  module Sidecar
    # The sidecar cannot start. `exit_status` follows sysexits(3).
    class StartError < StandardError
      attr_reader :exit_status

      def initialize(message, exit_status = 78)
        super(message)
        @exit_status = exit_status
      end
    end

    class UsageError < StartError
      def initialize(message)
        super(message, 64)
      end
    end

    # A request without an outcome: HTTP status, a code for the worker and a sentence for a human.
    class RequestError < StandardError
      attr_reader :http_status, :code, :details, :retry_after

      def initialize(http_status, code, message, retry_after: nil, **details)
        super(message)
        @http_status = http_status
        @code = code
        @details = details
        @retry_after = retry_after
      end

      def to_h
        {code: code, message: message, **details}
      end
    end

    # The constructors of every refusal: one place for codes and sentences.
    module Refusals
      module_function

      def protocol(message) = RequestError.new(400, "protocol", message)

      # The worker and the sidecar speak different versions: the sentence names the older side.
      def version(theirs)
        older = theirs.to_i < PROTOCOL.to_i ? "worker" : "sidecar"
        text = "this sidecar speaks protocol #{PROTOCOL}, the request #{theirs.to_s[/\A\d{1,9}\z/] || "another"}: " \
          "upgrade the #{older}, both must be of one release"
        RequestError.new(400, "protocol", text, protocol: PROTOCOL.to_i)
      end

      def malformed(message) = RequestError.new(400, "malformed", message)

      def unsigned = RequestError.new(401, "unsigned", "sign the request: set BRIDGE_SIDECAR_SECRET on both sides")

      def signature = RequestError.new(401, "signature", "the signature does not match: compare BRIDGE_SIDECAR_SECRET on both sides")

      def timestamp = RequestError.new(403, "timestamp", "the timestamp is more than 60 s off: synchronise both clocks")

      def replay = RequestError.new(403, "replay", "this nonce was seen before: make a new one for each request")

      def unknown = RequestError.new(404, "unknown", "the sidecar has no record of this delivery")

      def not_found = RequestError.new(404, "not_found", "no such path: see docs/protocol.md")

      def superseded = RequestError.new(409, "superseded", "a newer delivery of this job exists: drop this one")

      def running = RequestError.new(409, "running", "this job is running under another delivery: ask later")

      def too_large(limit) = RequestError.new(413, "too_large", "the body is larger than #{limit} bytes: raise --max-body or send less")

      def misdirected(boot) = RequestError.new(421, "misdirected", "another process was meant: ask /health again", boot: boot)

      def refused(message) = RequestError.new(422, "refused", message)

      def draining = RequestError.new(503, "draining", "the sidecar is going down: give the job back", retry_after: 5)

      def no_slot = RequestError.new(503, "no_slot", "all slots are busy: ask again", retry_after: 1)

      def internal = RequestError.new(500, "internal", "the sidecar failed: see its log")
    end
  end
end
