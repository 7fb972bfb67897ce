# frozen_string_literal: true

# Out of attempts at once, and not kept in the dead set.
class QuietDeathJob
  include Sidekiq::Job
  sidekiq_options retry: 0, dead: false

  def perform(*)
    raise "dies without a grave"
  end
end
