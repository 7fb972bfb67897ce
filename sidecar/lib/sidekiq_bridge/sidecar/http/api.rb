# frozen_string_literal: true

require "json"
require "securerandom"
require "sidekiq_bridge/sidecar/execution/python_end"
require "sidekiq_bridge/sidecar/execution/replies"
require "sidekiq_bridge/sidecar/http/authenticator"
require "sidekiq_bridge/sidecar/http/head"
require "sidekiq_bridge/sidecar/http/reply_signature"
require "sidekiq_bridge/sidecar/http/request"
require "sidekiq_bridge/sidecar/http/signature_gate"
require "sidekiq_bridge/sidecar/sidekiq/class_description"
require "sidekiq_bridge/sidecar/sidekiq/promoter"
require "sidekiq_bridge/sidecar/sidekiq/pusher"
require "sidekiq_bridge/sidecar/stream/seal"

module SidekiqBridge
  module Sidecar
    # The action of each request of the protocol, independent of the HTTP framework.
    class Api
      UPGRADE = "bridge-jobs"

      def initialize(executor:, dispatcher:, streams:, notices:, guard:, authenticator:, health:, boot:, max_body:, on_drain:)
        @executor = executor
        @dispatcher = dispatcher
        @streams = streams
        @notices = notices
        @guard = guard
        @authenticator = authenticator
        @health = health
        @boot = boot
        @max_body = max_body
        @on_drain = on_drain
        @pusher = Pusher.new
      end

      def execute(env)
        message = accept(env)
        check_boot(message)
        answer(@dispatcher.deliver(message), message)
      end

      # Takes the connection from the server on success; the client never sees this return value.
      def stream(env)
        raise Refusals.not_found unless env["rack.hijack"]
        message = accept(env)
        check_boot(message)
        raise Refusals.protocol("a stream needs Connection: Upgrade and Upgrade: #{UPGRADE}") unless message.upgrade?(UPGRADE)
        raise Refusals.draining if @executor.draining?
        nonce = SecureRandom.hex(16)
        @streams.open(env["rack.hijack"].call, greeting(message, nonce), *seals(message, nonce))
        json(101, status: "streaming")
      end

      def outcome(env, id)
        message = accept(env)
        check_boot(message)
        answer(@executor.fetch(id), message)
      end

      def interrupt(env, id)
        check_boot(accept(env))
        @executor.interrupt(id)
        accepted(id)
      end

      def cancel(env, id)
        message = accept(env)
        check_boot(message)
        @executor.cancel(id, cancellation(message.body))
        accepted(id)
      end

      # A worker stops: asks its jobs to stop at their next checkpoint.
      def quiet_worker(env, identity)
        check_boot(accept(env))
        json(202, status: "accepted", jobs: @executor.quiet_worker(identity))
      end

      # A worker has run the Python code of a job; the reply is the outcome, or the next request for that code.
      def performed(env, id)
        message = accept(env)
        check_boot(message)
        answer(@executor.performed(id, PythonEnd.parse(message.body)), message)
      end

      # A worker that runs the Python code of these deliveries lives.
      def alive(env)
        message = accept(env)
        check_boot(message)
        @executor.heard_of(deliveries(message.body))
        json(202, status: "alive")
      end

      # Runs due jobs through the client middleware; their worker moves them.
      def promote(env)
        message = accept(env)
        check_boot(message)
        raise Refusals.draining if @executor.draining?
        json(200, jobs: Promoter.new.call(message.body))
      end

      # Runs the app's handlers for jobs that ended outside of Ruby.
      def notices(env, kind)
        message = accept(env)
        check_boot(message)
        raise Refusals.draining if @executor.draining?
        json(200, notices: @notices.call(kind, message.body))
      end

      # Pushes a job of Python's through Sidekiq's client. A process that drains still does: it has a memory of its pushes.
      def push(env)
        message = accept(env)
        check_boot(message)
        json(200, @pusher.call(message.body))
      end

      # Tells what a job class of the app does around its perform.
      def describe(env)
        message = accept(env)
        check_boot(message)
        json(200, ClassDescription.of(ClassDescription.name_in(message.body), @guard))
      end

      def drain(env)
        check_boot(accept(env))
        @on_drain.call
        json(202, status: "draining")
      end

      # A client's first request does not know the boot id: 421 tells it to a signed request only. Without the boot id
      # an attacker could repeat a recorded request to another Puma worker, which does not know its nonce.
      def health(env)
        message = accept(env)
        check_boot(message) if message.boot || @authenticator.required?
        json(200, @health.full)
      end

      def live = json(200, status: "live")

      def ready
        state = @health.status
        json((state == "ready") ? 200 : 503, status: state)
      end

      def refuse(error) = @dispatcher.refuse(error)

      def crashed(error) = Replies.crashed(error)

      private

      def accept(env)
        message = Request.new(env, max_body: @max_body)
        raise Refusals.version(message.protocol) unless message.protocol == PROTOCOL
        raise env[SignatureGate::REFUSAL] if env.key?(SignatureGate::REFUSAL)
        @authenticator.check(message)
        message
      end

      def check_boot(message)
        raise Refusals.misdirected(@boot) unless message.boot == @boot
      end

      def answer(delivery, message)
        outcome = delivery.wait(message.wait_seconds)
        return Replies.settled(delivery, outcome) if outcome
        Replies.body(delivery) || json(202, status: "running", delivery: delivery.id, jid: delivery.jid)
      end

      def accepted(id) = json(202, status: "accepted", delivery: id)

      def cancellation(body)
        request = JSON.parse(body)
        kind = {"deadline" => DeadlineExceeded, "revoked" => Cancelled}.fetch(request["reason"])
        kind.new(request["message"].to_s)
      rescue JSON::ParserError, KeyError, TypeError, NoMethodError
        raise Refusals.protocol('the body must be {"reason": "deadline" or "revoked", "message": "..."}')
      end

      def deliveries(body)
        JSON.parse(body).fetch("deliveries").grep(String)
      rescue JSON::ParserError, KeyError, TypeError, NoMethodError
        raise Refusals.protocol('the body must be {"deliveries": ["<identity>/<token>", ...]}')
      end

      def greeting(message, nonce)
        headers = {"x-bridge-boot" => @boot}
        if (secret = message.signed_with)
          headers["x-bridge-nonce"] = nonce
          headers[ReplySignature::NAME] = ReplySignature.of(secret, message.nonce, 101, headers, "")
        end
        Head.of("HTTP/1.1 101 Switching Protocols", {"connection" => "Upgrade", "upgrade" => UPGRADE, **headers})
      end

      # Returns the seals of incoming and outgoing frames; nil for both without a secret.
      def seals(message, nonce)
        return [] unless message.signed_with
        key = Seal.stream_key(message.signed_with, message.nonce, nonce, @boot)
        [Seal.new(key, "worker"), Seal.new(key, "sidecar")]
      end

      def json(...) = Replies.json(...)
    end
  end
end
