# frozen_string_literal: true

require "json"
require "sidekiq_bridge/sidecar/errors"

module SidekiqBridge
  module Sidecar
    # How a job ended outside of Ruby, as its worker says it: one line of JSON, then the payload.
    class Notice
      # A line before each notice has its size.
      SIZE = /\G(\d{1,9})\n/
      KNOWN = {
        "RuntimeError" => ::RuntimeError, "Bridge::Cancelled" => Cancelled, "Bridge::DeadlineExceeded" => DeadlineExceeded,
        "Bridge::PoisonPill" => PoisonPill, "Bridge::JobRefused" => JobRefused, "Bridge::Rejected" => JobRefused,
        "Bridge::InvalidPayload" => InvalidPayload
      }.freeze

      attr_reader :id, :payload, :death, :errors

      def self.all_in(body)
        found, position, body = [], 0, body.b
        while position < body.bytesize
          size = SIZE.match(body, position) || raise(Refusals.protocol("the body must be sizes and notices"))
          position = size.end(0) + size[1].to_i
          raise Refusals.protocol("the body ends within a notice") if position > body.bytesize
          found << new(body.byteslice(size.end(0), size[1].to_i))
        end
        found
      end

      def initialize(text)
        head, @payload = text.split("\n", 2)
        head = JSON.parse(head.to_s.force_encoding(Encoding::UTF_8))
        @id, @death, @errors = head.fetch("id").to_s, head["death"], head["errors"]
        @error, @backtrace, @fields = head.fetch("error"), head["backtrace"] || [], head["fields"] || {}
        @payload = (@payload || +"").force_encoding(Encoding::UTF_8)
      rescue JSON::ParserError, KeyError, TypeError, NoMethodError
        raise Refusals.protocol("a notice must be one line of JSON with id and error, and a payload")
      end

      # The job's hash before this failure. Raises what Sidekiq's parser raises.
      def job = ::Sidekiq.load_json(@payload)

      # The same with the fields that this end sets, as Sidekiq's retry code passes it to the death handlers.
      def dead_job = job.merge(@fields)

      # A worker names a class only among these. Any other is of Python.
      def error
        name, message = @error["class"].to_s, @error["message"].to_s
        return PythonError.of(name, message, @backtrace) unless KNOWN.key?(name)
        KNOWN[name].new(message).tap { |error| error.set_backtrace(@backtrace.empty? ? caller : @backtrace) }
      end
    end
  end
end
