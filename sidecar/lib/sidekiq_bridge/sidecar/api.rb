# frozen_string_literal: true

require "json"
require "sidekiq_bridge/sidecar/authenticator"
require "sidekiq_bridge/sidecar/delivery"
require "sidekiq_bridge/sidecar/job"
require "sidekiq_bridge/sidecar/message"

module SidekiqBridge
  module Sidecar
    # What each request of the protocol does, apart from HTTP's ways of asking.
    class Api
      Reply = Struct.new(:status, :body, :headers)

      def initialize(executor:, authenticator:, guard:, health:, boot:, max_body:, on_drain:)
        @executor = executor
        @authenticator = authenticator
        @guard = guard
        @health = health
        @boot = boot
        @max_body = max_body
        @on_drain = on_drain
      end

      def execute(env)
        message = accept(env)
        check_boot(message)
        answer(deliver(message), message)
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

      def drain(env)
        accept(env)
        @on_drain.call
        json(202, status: "draining")
      end

      def health(env)
        accept(env)
        json(200, @health.full)
      end

      def live = json(200, status: "live")

      def ready
        state = @health.status
        json((state == "ready") ? 200 : 503, status: state)
      end

      def refuse(error)
        headers = error.retry_after ? {"retry-after" => error.retry_after.to_s} : {}
        json(error.http_status, error.to_h, headers)
      end

      # A bug of ours: into the log with it, and no word of it to the other side.
      def crashed(error)
        ::Sidekiq.logger.error { "#{error.class}: #{error.message}\n#{error.backtrace&.first(20)&.join("\n")}" }
        refuse(Refusals.internal)
      end

      private

      def accept(env)
        message = Message.new(env, max_body: @max_body)
        raise Refusals.protocol("X-Bridge-Protocol must be #{PROTOCOL}") unless message.protocol == PROTOCOL
        @authenticator.check_presence(message)
        @authenticator.check(message)
        message
      end

      def check_boot(message)
        raise Refusals.misdirected(@boot) unless message.boot == @boot
      end

      # A known delivery is joined without a look at its body: it was looked at when it was new.
      def deliver(message)
        @executor.find(message.delivery) || submit(message, job_from(message))
      end

      def submit(message, job)
        delivery = Delivery.new(message.delivery, job, claimed_at_ms: message.claimed_at_ms, recovered: message.recovered?)
        @executor.submit(delivery, job)
      end

      def job_from(message)
        job = Job.new(message.body, queue: message.queue, digest: message.body_digest,
          correlation_id: message.correlation_id, trace: message.trace)
        reason = @guard.refusal_by_name(job)
        raise Refusals.refused(reason) if reason
        job
      end

      def answer(delivery, message)
        outcome = delivery.wait(message.wait_seconds)
        return json(202, status: "running", delivery: delivery.id, jid: delivery.jid) unless outcome
        raise Refusals.refused(outcome.message) if outcome.refused?
        Reply.new(200, delivery.outcome_json, {})
      end

      def accepted(id) = json(202, status: "accepted", delivery: id)

      def cancellation(body)
        request = JSON.parse(body)
        kind = {"deadline" => DeadlineExceeded, "revoked" => Cancelled}.fetch(request["reason"])
        kind.new(request["message"].to_s)
      rescue JSON::ParserError, KeyError, TypeError, NoMethodError
        raise Refusals.protocol('the body must be {"reason": "deadline" or "revoked", "message": "..."}')
      end

      def json(status, body, headers = {}) = Reply.new(status, JSON.generate(body), headers)
    end
  end
end
