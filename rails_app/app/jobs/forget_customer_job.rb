# frozen_string_literal: true

# Its customer may be gone when it runs: then there is nothing left to do.
class ForgetCustomerJob < ApplicationJob
  discard_on(ActiveJob::DeserializationError)

  def perform(customer)
    record("forgotten", customer.name)
  end
end
