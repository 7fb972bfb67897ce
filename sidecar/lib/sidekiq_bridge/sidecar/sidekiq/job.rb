# frozen_string_literal: true

require "sidekiq_bridge/sidecar/errors"
require "sidekiq_bridge/sidecar/sidekiq/argument_bytes"
require "sidekiq_bridge/sidecar/sidekiq/trace_context"

module SidekiqBridge
  module Sidecar
    # A payload as the worker sent it, with its headers. This class trusts nothing in it, and looks up no constant.
    class Job
      # Constants in Ruby's syntax, with the leading :: that Sidekiq 6 tolerates.
      CONSTANT_PATH = /\A(?:::)?\p{Upper}[[:word:]]*(?:::\p{Upper}[[:word:]]*)*\z/
      WRAPPERS = %w[ActiveJob::QueueAdapters::SidekiqAdapter::JobWrapper Sidekiq::ActiveJob::Wrapper]
        .flat_map { |name| [name, "::#{name}"] }.freeze

      attr_reader :payload, :jid, :class_name, :active_job_class_name, :queue, :correlation_id, :trace, :trace_id, :python_lease

      # `python_lease` is set if the job's code is in Python: seconds for which its worker may be silent.
      def initialize(payload, queue = nil, correlation_id: nil, trace: nil, python_lease: nil, tracked: false, valued: false)
        @payload = payload.force_encoding(Encoding::UTF_8)
        @hash = parse(payload)
        @jid = @hash["jid"].freeze # a key of the records: an unfrozen one would be copied
        @class_name = @hash["class"]
        @active_job_class_name = wrapped_class_name
        @queue = queue || @hash["queue"].to_s
        @correlation_id = correlation_id || TraceContext.correlation_id(@hash)
        @trace = trace
        @python_lease = python_lease
        @tracked = tracked
        @valued = valued
        @trace_id = TraceContext.trace_id(@hash, trace)
      end

      # Returns the parsed payload to the first caller, which may change it; nil afterwards.
      def take_hash
        @hash.tap { @hash = nil }
      end

      # Tells payloads of one jid apart. Ruby's own hash has a secret seed, so a client cannot craft two payloads with
      # the same hash. It costs a tenth of a SHA-256.
      def fingerprint = python_lease ? [payload, :python].hash : payload.hash

      # Identifies all attempts of one push, and no other job that happens to have its jid. Nil without a jid.
      def lineage = ([@jid, @class_name, @hash["created_at"], ArgumentBytes.of(payload, @jid) || @hash["args"]].hash unless @jid.nil? || @jid == "")

      # True if the reply is to say what the job returned, and the job may tell how far it has come.
      def tracked? = @tracked

      # True if the reply is to say what the job returned, for a shadow alone.
      def valued? = @valued

      def wrapper? = WRAPPERS.include?(class_name)

      def effective_class_name = wrapper? ? active_job_class_name : class_name

      private

      # The ActiveJob class that a wrapper instantiates. `wrapped` is only a label: this class runs.
      def wrapped_class_name
        data = @hash["args"]
        data = data.first if data.is_a?(Array)
        data["job_class"] if data.is_a?(Hash)
      end

      def parse(payload)
        hash = load_json(payload)
        raise Refusals.malformed("the payload is JSON, but not an object") unless hash.is_a?(Hash)
        hash
      end

      # Uses Sidekiq's own parser, so that both agree on malformed payloads (nesting deeper than 100 included).
      def load_json(payload)
        ::Sidekiq.load_json(payload)
      rescue => e
        raise Refusals.malformed("the payload is not JSON: #{e.class.name}")
      end
    end
  end
end
