# frozen_string_literal: true

# Has no attempts left after its first failure, and skips the dead set.
class QuietDeathJob
  include Sidekiq::Job
  sidekiq_options retry: 0, dead: false

  def perform(*)
    raise "dies without a grave"
  end
end
