# frozen_string_literal: true

require "sidekiq"
require "sidekiq/client"
require "sidekiq_bridge/sidecar/errors"
require "sidekiq_bridge/sidecar/logs/log_text"

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

      # Fields that identify a job. Its id does not change either: the worker holds the job under that id.
      NEVER_REMOVED = %w[class args jid wrapped].freeze

      # A body of many payloads has the size of each on a line before it.
      HEAD = /\G(\d{1,9})\n/

      def call(body) = payloads(body.b).map { |payload| pass(payload) }

      private

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

      # A middleware's error concerns one job: the worker moves that job unchanged, and the log reports the error.
      def pass(payload)
        before = load(payload)
        client = Client.new
        return {"halted" => true} unless client.push(load(payload)) && client.payload
        difference(before, client.payload)
      rescue => e
        ::Sidekiq.logger.error { "Client middleware failed for a due job: #{e.class}: #{LogText.line(e.message)}" }
        {"error" => "#{e.class}: #{e.message}"}
      end

      # Ignores fields that Sidekiq itself adds and removes (`at`), and reports the values that a middleware sets.
      def difference(before, after)
        fields = after.reject { |key, value| key == "jid" || (before.key?(key) && before[key].eql?(value)) }
        {"fields" => fields, "removed" => before.keys - after.keys - NEVER_REMOVED}
      end

      def load(payload) = ::Sidekiq.load_json(payload.dup.force_encoding(Encoding::UTF_8))
    end
  end
end
