# frozen_string_literal: true

require "json"
require "sidekiq_bridge/sidecar/errors"

module SidekiqBridge
  module Sidecar
    # The end of a job's Python code, as its worker reports it. `turn` names the request for that code.
    class PythonEnd
      STATUSES = %w[done failed cancelled released].freeze
      LONGEST_BACKTRACE = 200
      # A time limit's end has a Ruby class of its own, the same as in a Ruby job.
      DEADLINE = DeadlineExceeded.name

      attr_reader :turn

      def self.parse(body)
        said = JSON.parse(body)
        raise TypeError unless STATUSES.include?(said["status"]) && said["turn"].is_a?(Integer) && limit?(said["limit"])
        new(said)
      rescue JSON::ParserError, TypeError, NoMethodError
        raise Refusals.protocol(%(the body must be {"turn": N, "status": one of #{STATUSES.join(", ")}, "class", "message", "backtrace", "limit"}))
      end

      def self.limit?(value) = value.nil? || (value.is_a?(Integer) && value >= 0)
      private_class_method :limit?

      def initialize(said)
        @said = said
        @turn = said["turn"]
      end

      # The task's own number of retries; nil if it names none.
      def retry_limit = @said["limit"]

      def cancelled? = @said["status"] == "cancelled"

      # The exception that the job raises in Ruby; nil if its code returned.
      def error
        case @said["status"]
        when "cancelled" then Cancelled.new(message)
        when "released" then ::Sidekiq::Shutdown.new(message)
        when "failed" then (name == DEADLINE) ? DeadlineExceeded.new(message) : PythonError.of(name, message, backtrace)
        end
      end

      private

      def name = @said["class"].to_s

      def message = @said["message"].to_s

      def backtrace = Array(@said["backtrace"]).first(LONGEST_BACKTRACE).map(&:to_s)
    end
  end
end
