# frozen_string_literal: true

# The demo pushes many of these in one round trip.
class BulkJob
  include Sidekiq::Job
  sidekiq_options queue: "low"

  def perform(number)
    logger.debug { "bulk #{number}" }
  end
end
