# frozen_string_literal: true

require "openssl"
require "sidekiq_bridge/sidecar/errors"

module SidekiqBridge
  module Sidecar
    # A payload as the worker sent it, and what came with it. Nothing here is trusted, and nothing constantized.
    class Job
      # Constants as Ruby reads them, with the leading :: that Sidekiq 6 tolerates.
      CONSTANT_PATH = /\A(?:::)?\p{Upper}[[:word:]]*(?:::\p{Upper}[[:word:]]*)*\z/
      WRAPPERS = %w[ActiveJob::QueueAdapters::SidekiqAdapter::JobWrapper Sidekiq::ActiveJob::Wrapper].freeze

      attr_reader :payload, :queue, :digest, :correlation_id, :trace, :hash

      def initialize(payload, queue: nil, digest: nil, correlation_id: nil, trace: nil)
        @payload = payload.force_encoding(Encoding::UTF_8)
        @hash = parse(payload)
        @queue = queue || @hash["queue"].to_s
        @digest = digest || OpenSSL::Digest::SHA256.hexdigest(payload)
        @correlation_id = correlation_id
        @trace = trace
      end

      def jid = @hash["jid"]

      def class_name = @hash["class"]

      def wrapper? = WRAPPERS.include?(class_name.to_s.delete_prefix("::"))

      # The ActiveJob class that a wrapper would instantiate. `wrapped` is only a label: this is what runs.
      def active_job_class_name
        data = @hash["args"]
        data = data.first if data.is_a?(Array)
        data["job_class"] if data.is_a?(Hash)
      end

      def effective_class_name = wrapper? ? active_job_class_name : class_name

      private

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
