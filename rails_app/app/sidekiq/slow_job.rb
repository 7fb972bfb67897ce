# frozen_string_literal: true

class SlowJob
  include Sidekiq::Job

  def perform(seconds = 1.0)
    sleep(seconds)
  end
end
