# frozen_string_literal: true

require "json"
require "sidekiq"
require "sidekiq/client"
require "sidekiq_bridge/sidecar/errors"
require "sidekiq_bridge/sidecar/logs/log_text"
require "sidekiq_bridge/sidecar/sidekiq/app_code"
require "sidekiq_bridge/sidecar/sidekiq/changes"

module SidekiqBridge
  module Sidecar
    # Takes due jobs through the app's client middleware, as Sidekiq's own poller does when it pushes them, and reports
    # the changes. The worker moves the jobs; the sidecar writes nothing.
    class Promoter
      # Keeps the payload instead of pushing it.
      class Client < ::Sidekiq::Client
        attr_reader :payload

        private

        def raw_push(payloads)
          @payload = payloads.first
          true
        end
      end

      # A body of many payloads has the size of each on a line before it.
      HEAD = /\G(\d{1,9})\n/

      # Middleware begins for no further entry after that. The worker waits 40 s for an answer and then pushes all that it
      # asked for; it asks again for the entries without an answer.
      LONGEST_SECONDS = 5

      # One answer for each payload, in order; fewer where middleware is slow, but at least one.
      def call(body)
        rest, found, deadline = payloads(body.b), [], monotonic + LONGEST_SECONDS
        while rest.any? && (found.empty? || monotonic < deadline)
          apart { found << pass(rest.shift) while rest.any? && (found.empty? || monotonic < deadline) } || found << killed
        end
        found
      end

      private

      # On a thread of its own: middleware may kill its thread, or leave values there. False if the thread was killed.
      def apart
        Thread.new { yield || true }.value || false
      end

      def payloads(body)
        found, position = [], 0
        while position < body.bytesize
          size = HEAD.match(body, position) || raise(Refusals.protocol("the body must be sizes and payloads"))
          position = size.end(0) + size[1].to_i
          raise Refusals.protocol("the body ends within a payload") if position > body.bytesize
          found << body.byteslice(size.end(0), size[1].to_i)
        end
        found
      end

      # An error of a middleware is the job's own, whatever its class: the worker pushes that job as it is, and the app hears
      # of it. The verdicts about the other jobs remain valid.
      def pass(payload)
        before = load(payload)
        after = AppCode.run { pushed(load(payload)) } or return {"halted" => true}
        Changes.between(before, after).tap { |found| JSON.generate("jobs" => [found]) }
      rescue Exception => e # rubocop:disable Lint/RescueException
        failed("#{e.class}: #{e.message}")
      end

      # Returns the payload as middleware leaves it; nil if middleware halted it.
      def pushed(hash)
        client = Client.new
        client.payload if client.push(hash)
      end

      def killed = failed("it killed its thread")

      def failed(reason)
        ::Sidekiq.logger.error { "Client middleware failed for a due job: #{LogText.line(reason)}" }
        {"error" => LogText.valid(reason)}
      end

      def load(payload) = ::Sidekiq.load_json(payload.dup.force_encoding(Encoding::UTF_8))

      def monotonic = Process.clock_gettime(Process::CLOCK_MONOTONIC)
    end
  end
end
