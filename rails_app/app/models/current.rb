# frozen_string_literal: true

# Travels with every job through Sidekiq::CurrentAttributes.
class Current < ActiveSupport::CurrentAttributes
  attribute :tenant, :request_id
end
