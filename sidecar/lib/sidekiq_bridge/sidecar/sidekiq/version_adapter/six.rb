# frozen_string_literal: true

require "sidekiq_bridge/sidecar/sidekiq/processor"
require "sidekiq_bridge/sidecar/sidekiq/retrier"
require "sidekiq_bridge/sidecar/sidekiq/version_adapter/base"

module SidekiqBridge
  module Sidecar
    class VersionAdapter
      # Sidekiq 6.4: one global configuration, the Sidekiq module itself, with a hash of options.
      class Six < VersionAdapter
        # Up to 6.5.1 Sidekiq asks for the delay just before it writes.
        class Retrier < Sidecar::Retrier
          private

          def attempt_retry(instance, message, queue, exception)
            deciding(message) { super }
          end

          def delay_for(instance, count, exception)
            @own_delay = false
            delay = super
            retry_in_seconds(delay, @own_delay ? "sidekiq_retry_in" : "default")
          end

          def retry_in(instance, count, exception)
            super.tap { |seconds| @own_delay = seconds.respond_to?(:to_i) && seconds.to_i.positive? }
          end
        end

        def options = ::Sidekiq.options

        def chains = [::Sidekiq.server_middleware]

        def client_chain = ::Sidekiq.client_middleware

        def concurrency=(threads)
          options[:concurrency] = threads
        end

        def concurrency = options[:concurrency]

        def lookup(processor, name) = processor.send(:constantize, name)

        def metrics_family = "none"

        def error_context(context, payload) = context.merge(jobstr: payload)

        private

        def default_options = ::Sidekiq::DEFAULTS

        def error_handlers = ::Sidekiq.error_handlers

        def component = make_processor

        def make_processor = JobProcessor.new(nil, options)

        def make_retrier = Retrier.new
      end
    end
  end
end
