# frozen_string_literal: true

# Its failure is counted and reported, and that is all.
class NoRetryJob
  include Sidekiq::Job
  sidekiq_options retry: false

  def perform(*)
    raise "fails once and is gone"
  end
end
