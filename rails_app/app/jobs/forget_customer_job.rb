# frozen_string_literal: true

# If its customer is gone when it runs, the job has nothing to do.
class ForgetCustomerJob < ApplicationJob
  discard_on(ActiveJob::DeserializationError)

  def perform(customer)
    record("forgotten", customer.name)
  end
end
