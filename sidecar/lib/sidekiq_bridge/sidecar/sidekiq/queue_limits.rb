# frozen_string_literal: true

require "sidekiq_bridge/sidecar/sidekiq/version_adapter"

module SidekiqBridge
  module Sidecar
    # Writes the limits of sidekiq-limit_fetch in sidekiq.yml to Redis, for workers to read. The gem does so in Sidekiq's Manager, which
    # a sidecar lacks. A limit that is in Redis already stays, as with the gem.
    module QueueLimits
      OPTIONS = {limits: :limit, process_limits: :process_limit}.freeze

      module_function

      def write(options = VersionAdapter.current.options)
        return unless defined?(::Sidekiq::LimitFetch) && ::Sidekiq::Queue.respond_to?(:[])
        OPTIONS.each do |option, attribute|
          (options[option] || {}).each { |name, value| write_one(::Sidekiq::Queue[name.to_s], attribute, value) }
        end
      rescue StandardError => e
        ::Sidekiq.logger.warn { "The limits of sidekiq-limit_fetch could not be written (#{e.class}: #{e.message})" }
      end

      def write_one(queue, attribute, value)
        queue.public_send("#{attribute}=", value) if queue.public_send(attribute).nil?
      end
    end
  end
end
