# frozen_string_literal: true

require "sidekiq_bridge/sidecar/sidekiq/retrier"
require "sidekiq_bridge/sidecar/sidekiq/version_adapter/base"

module SidekiqBridge
  module Sidecar
    class VersionAdapter
      # From 6.5.2 on Sidekiq asks for a strategy and a delay, adds the jitter, and writes. Its own method does not say
      # whose delay it returns. So this class asks the job, by the loaded version's rules.
      class AskingRetrier < Sidecar::Retrier
        BLOCK_GETS_MESSAGE = VersionAdapter.since?("7.0.8")
        NUMBERS_OF_ANY_KIND = VersionAdapter.since?("7.0.7")
        WRAPPED_CLASS_ANSWERS = VersionAdapter.since?("7.1.3")

        private

        def process_retry(instance, message, queue, exception)
          deciding(message) { super }
        end

        def delay_for(instance, count, exception, message = @message)
          answer = ask_job(instance, count, exception, message)
          answer = answer.to_i if NUMBERS_OF_ANY_KIND && answer.respond_to?(:to_i)
          case answer
          when :kill, :discard then [answer, nil]
          when Integer then seconds(answer, count)
          else seconds(0, count)
          end
        end

        def seconds(own, count)
          return retry_in_seconds(own + jitter(count), "sidekiq_retry_in") if own.positive?
          retry_in_seconds((count**4) + 15 + jitter(count), "default")
        end

        def ask_job(instance, count, exception, message)
          arguments = BLOCK_GETS_MESSAGE ? [count, exception, message] : [count, exception]
          retry_in_block(instance, message)&.call(*arguments)
        rescue Exception => e # rubocop:disable Lint/RescueException
          handle_exception(e, {context: "sidekiq_retry_in of #{instance.class.name} failed, using the default delay"})
          nil
        end

        # A wrapped class (ActiveJob) answers for itself; Sidekiq ignores its wrapper's block.
        def retry_in_block(instance, message)
          return instance&.sidekiq_retry_in_block if message["wrapped"].nil? || !WRAPPED_CLASS_ANSWERS
          wrapped = Object.const_get(message["wrapped"])
          wrapped.sidekiq_retry_in_block if wrapped.is_a?(Class) && wrapped.respond_to?(:sidekiq_retry_in_block)
        end

        def jitter(count) = rand(10) * (count + 1)

        # The retry code must not reach Redis: if a new Sidekiq finds another way, this raises.
        def redis = raise("Sidekiq's retry code tried to write to Redis")
      end
    end
  end
end
