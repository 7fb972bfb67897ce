# frozen_string_literal: true

class TaggedJob
  include Sidekiq::Job
  sidekiq_options tags: %w[billing demo]

  def perform(*) = logger.info("tagged work")
end
