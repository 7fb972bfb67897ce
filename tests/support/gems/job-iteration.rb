# frozen_string_literal: true

require "active_job"

# A stub of job-iteration, written from its contract: an ActiveJob walks an enumerator, keeps the cursor in its own
# serialized form, and asks an adapter after each step whether to stop. TEST_JOB_ITERATION chooses the adapter of one of
# its releases: "launcher" (1.1), "flag" (1.3, a flag set at :quiet) or "registry" (1.5 and later).
module JobIteration
  class << self
    attr_accessor :interruption_adapter
  end

  module Integrations
    # The release's own name for it; inside it, Sidekiq is ::Sidekiq.
    module Sidekiq
      class << self
        attr_accessor :stopping

        def call = stopping
      end
    end
  end

  module InterruptionAdapters
    module SidekiqAdapter
      class << self
        attr_accessor :stopping

        def call = stopping
      end
    end
  end

  module Iteration
    attr_accessor :cursor_position

    def serialize = super.merge("cursor_position" => cursor_position)

    def deserialize(data)
      super
      self.cursor_position = data["cursor_position"]
    end

    def perform(*arguments)
      build_enumerator(*arguments, cursor: cursor_position).each do |object, cursor|
        each_iteration(object, *arguments)
        self.cursor_position = cursor
        return retry_job if JobIteration.interruption_adapter.call
      end
      on_complete
    end

    def on_complete = nil
  end

  def self.adapter_of_release(release)
    case release
    when "launcher" then -> { defined?(::Sidekiq::CLI) && ::Sidekiq::CLI.instance.launcher.stopping? }
    when "flag" then Integrations::Sidekiq
    else InterruptionAdapters::SidekiqAdapter
    end
  end

  self.interruption_adapter = adapter_of_release(ENV["TEST_JOB_ITERATION"])

  unless ENV["TEST_JOB_ITERATION"] == "launcher"
    ::Sidekiq.configure_server do |config|
      config.on(:quiet) { JobIteration.interruption_adapter.stopping = true }
    end
  end
end
