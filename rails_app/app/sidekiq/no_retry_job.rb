# frozen_string_literal: true

# Sidekiq counts and reports its failure, but does not retry it.
class NoRetryJob
  include Sidekiq::Job
  sidekiq_options retry: false

  def perform(*)
    raise "fails once and is gone"
  end
end
