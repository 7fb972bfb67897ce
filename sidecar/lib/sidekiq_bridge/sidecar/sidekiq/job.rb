# frozen_string_literal: true

require "sidekiq_bridge/sidecar/errors"
require "sidekiq_bridge/sidecar/sidekiq/trace_context"

module SidekiqBridge
  module Sidecar
    # A payload as the worker sent it, and what came with it. Nothing here is trusted, and nothing constantized.
    class Job
      # Constants as Ruby reads them, with the leading :: that Sidekiq 6 tolerates.
      CONSTANT_PATH = /\A(?:::)?\p{Upper}[[:word:]]*(?:::\p{Upper}[[:word:]]*)*\z/
      WRAPPERS = %w[ActiveJob::QueueAdapters::SidekiqAdapter::JobWrapper Sidekiq::ActiveJob::Wrapper]
        .flat_map { |name| [name, "::#{name}"] }.freeze

      attr_reader :payload, :jid, :class_name, :active_job_class_name, :queue, :correlation_id, :trace, :trace_id

      def initialize(payload, queue: nil, correlation_id: nil, trace: nil)
        @payload = payload.force_encoding(Encoding::UTF_8)
        @hash = parse(payload)
        @jid = @hash["jid"].freeze # a key of the records: an unfrozen one would be copied
        @class_name = @hash["class"]
        @wrapper = WRAPPERS.include?(class_name)
        @active_job_class_name = wrapped_class_name
        @queue = queue || @hash["queue"].to_s
        @correlation_id = correlation_id || TraceContext.correlation_id(@hash)
        @trace = trace
        @trace_id = TraceContext.trace_id(@hash, trace)
      end

      # The parsed payload, for whoever asks first: it is theirs to change.
      def take_hash
        @hash.tap { @hash = nil }
      end

      # Tells payloads of one jid from each other. Ruby's own hash has a secret seed, so that nobody can make two
      # payloads look the same on purpose, and costs a tenth of a SHA-256.
      def fingerprint = payload.hash

      # The same for all attempts of one push, and for no other job that happens to have its jid. nil without a jid.
      def lineage = ([@jid, @class_name, @hash["created_at"], @hash["args"]].hash unless @jid.nil? || @jid == "")

      def wrapper? = @wrapper

      def effective_class_name = wrapper? ? active_job_class_name : class_name

      private

      # The ActiveJob class that a wrapper would instantiate. `wrapped` is only a label: this is what runs.
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

      # By Sidekiq's own parser, so that both agree on what is malformed (nesting deeper than 100 included).
      def load_json(payload)
        ::Sidekiq.load_json(payload)
      rescue => e
        raise Refusals.malformed("the payload is not JSON: #{e.class.name}")
      end
    end
  end
end
