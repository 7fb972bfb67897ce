# frozen_string_literal: true

module SidekiqBridge
  module Sidecar
    # Sidekiq's Processor parses its payload. The sidecar has parsed it already, and parsing costs a tenth of a small
    # job. The first call gets that result. A later call (the retry code needs the original) parses again.
    module ParsedOnce
      KEY = :bridge_parsed_job

      # The job that this thread is about to perform.
      def self.offer(job)
        Thread.current[KEY] = job
      end

      def load_json(text)
        job = Thread.current[KEY]
        return super unless job && job.payload.equal?(text)
        Thread.current[KEY] = nil
        job.take_hash || super
      end

      ::Sidekiq.singleton_class.prepend(self)
    end
  end
end
