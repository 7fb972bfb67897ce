# frozen_string_literal: true

# A record as argument: it travels as a GlobalID and is loaded again in the job.
class WelcomeJob < ApplicationJob
  def perform(customer)
    record("welcomed", customer.name)
  end
end
