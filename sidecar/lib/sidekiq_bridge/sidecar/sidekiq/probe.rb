# frozen_string_literal: true

require "sidekiq"

module SidekiqBridge
  # The job that `bridge verify` sends through every part: it does nothing for a moment, or fails. An app's error
  # handlers see the failure under this class, so they can leave it out.
  class ProbeFailed < StandardError; end

  class Probe
    include(defined?(::Sidekiq::Job) ? ::Sidekiq::Job : ::Sidekiq::Worker)

    LONGEST_SECONDS = 5

    def perform(outcome, seconds = 0)
      raise ProbeFailed, "failed on purpose, by `bridge verify`" unless outcome == "done"
      sleep(seconds.to_f.clamp(0, LONGEST_SECONDS))
    end
  end
end
