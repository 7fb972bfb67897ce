# frozen_string_literal: true

require "sidekiq"
require "sidekiq/client"
require "sidekiq_bridge/batches/block"

module SidekiqBridge
  module Batches
    # A job that waits for an event of its batch.
    class Callback
      TIMES = %w[created_at enqueued_at expiry at].freeze

      # Takes the payload that Sidekiq's client would push.
      class Capture
        attr_reader :payload

        def add(payloads) = @payload = payloads.first
      end

      # A class of Sidekiq's or ActiveJob's, or the name of a class in Ruby or Python.
      def self.of(event, job, args)
        capture = Capture.new
        Block.within(capture) { send_job(event, job, args) }
        raise BatchRefused, "on_#{event}: client middleware stopped #{job}" unless capture.payload
        new(capture.payload)
      end

      def self.send_job(event, job, args)
        if job.is_a?(String) && !job.empty?
          ::Sidekiq::Client.push("class" => job, "args" => args)
        elsif job.respond_to?(:perform_async)
          job.perform_async(*args)
        elsif job.respond_to?(:perform_later)
          job.perform_later(*args)
        else
          raise BatchRefused, "on_#{event}: #{job.inspect}: write a job class, or the name of one"
        end
      end
      private_class_method :send_job

      def initialize(payload) = @payload = payload

      # As batch_fire.lua reads it. A child batch's callback is a job of the parent.
      def line(parent)
        fields = @payload.reject { |name, _| TIMES.include?(name) }
        fields[Block::FIELD] = parent if parent
        args = fields.delete("args") || []
        "#{fields["jid"]}\n#{fields["queue"]}\n#{::Sidekiq.dump_json({"args" => args, **fields}).delete_suffix("}")}\n"
      end
    end
  end
end
