# frozen_string_literal: true

# Pushed by the hundred, in one round trip.
class BulkJob
  include Sidekiq::Job
  sidekiq_options queue: "low"

  def perform(number)
    logger.debug { "bulk #{number}" }
  end
end
