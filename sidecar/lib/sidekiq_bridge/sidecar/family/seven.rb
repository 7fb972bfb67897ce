# frozen_string_literal: true

require "sidekiq_bridge/sidecar/family"
require "sidekiq_bridge/sidecar/processor"
require "sidekiq_bridge/sidecar/retrier"

module SidekiqBridge
  module Sidecar
    class Family
      # Sidekiq 7: a configuration object and capsules.
      class Seven < Family
        # 7 and 8 ask for a strategy and a delay, add the jitter, and write.
        class Retrier < Sidecar::Retrier
          private

          def process_retry(instance, message, queue, exception)
            deciding(message) { super }
          end

          # Sidekiq's own method does not say whose delay it returns, so the job is asked here, by the same rules.
          def delay_for(instance, count, exception, message = @message)
            answer = ask_job(instance, count, exception, message)
            answer = answer.to_i if answer.respond_to?(:to_i)
            case answer
            when :kill, :discard then [answer, nil]
            when Integer then seconds(answer, count)
            else seconds(0, count)
            end
          end

          def seconds(own, count)
            source = own.positive? ? "sidekiq_retry_in" : "default"
            retry_in_seconds((own.positive? ? own : (count**4) + 15) + jitter(count), source)
          end

          def ask_job(instance, count, exception, message)
            retry_in_block(instance, message)&.call(count, exception, message)
          rescue Exception => e # rubocop:disable Lint/RescueException
            handle_exception(e, {context: "sidekiq_retry_in of #{instance.class.name} failed, using the default delay"})
            nil
          end

          # A wrapped class (ActiveJob) answers for itself; its wrapper's block is ignored.
          def retry_in_block(instance, message)
            return instance&.sidekiq_retry_in_block if message["wrapped"].nil?
            wrapped = Object.const_get(message["wrapped"])
            wrapped.sidekiq_retry_in_block if wrapped.respond_to?(:sidekiq_retry_in_block)
          end

          def jitter(count) = rand(10) * (count + 1)

          # Nothing of the retry code may reach Redis; if a new Sidekiq finds another way there, it shall be seen.
          def redis = raise("Sidekiq's retry code tried to write to Redis")
        end

        def options = ::Sidekiq.default_configuration

        # A capsule has a copy; 7 and 8.0 use that, 8.1.7 the original.
        def chains = [options.server_middleware, options.default_capsule.server_middleware]

        def client_chain = options.client_middleware

        def concurrency=(threads)
          options.concurrency = threads
        end

        def lookup(_processor, name) = Object.const_get(name)

        def metrics_family = "7"

        def enter_thread
          Thread.current[:sidekiq_capsule] = options.default_capsule
        end

        private

        def make_processor = JobProcessor.new(options.default_capsule) {}

        def make_retrier = Retrier.new(options.default_capsule)
      end
    end
  end
end
