# frozen_string_literal: true

# Keeps its backtrace with the failure, for the Web UI.
class BacktraceJob
  include Sidekiq::Job
  sidekiq_options backtrace: true, retry: 0

  def perform(depth = 3)
    depth.zero? ? raise(KeyError, "<b>deep</b> & far down") : perform(depth - 1)
  end
end
