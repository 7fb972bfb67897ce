# frozen_string_literal: true

# An ActiveJob that uses Sidekiq's options in place of ActiveJob's retries.
class StrictJob < ApplicationJob
  sidekiq_options retry: 0, tags: ["strict"]

  def perform(*)
    raise "straight to the dead set"
  end
end
