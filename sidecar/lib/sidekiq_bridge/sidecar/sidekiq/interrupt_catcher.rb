# frozen_string_literal: true

require "sidekiq/job/interrupt_handler"

module SidekiqBridge
  module Sidecar
    # Replaces Sidekiq's InterruptHandler. A job that stopped at a checkpoint goes back to the worker, with the payload
    # that Sidekiq would push.
    class InterruptCatcher
      include ::Sidekiq::ServerMiddleware

      # A client that returns its payload, after normalising and client middleware, instead of pushing it.
      class Client < ::Sidekiq::Client
        # Answers the commands of Client#atomic_push.
        class Recorder
          attr_reader :payload

          def sadd(*) = nil

          def lpush(_queue, payloads)
            @payload = payloads.first
          end

          def zadd(_set, pairs)
            @payload = pairs.flatten.last
          end
        end

        attr_reader :payload

        private

        def raw_push(payloads)
          recorder = Recorder.new
          atomic_push(recorder, payloads)
          @payload = recorder.payload
        end
      end

      def call(instance, hash, _queue)
        yield
      rescue ::Sidekiq::Job::Interrupted
        processor = instance._context
        client = Client.new
        client.push(processor.without_lent(hash))
        processor.interrupted(client.payload)
        raise ::Sidekiq::JobRetry::Skip
      end
    end
  end
end
