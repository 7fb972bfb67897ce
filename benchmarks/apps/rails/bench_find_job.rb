# frozen_string_literal: true

# An ActiveJob as most apps push it: a record, which travels as a GlobalID, and some options.
class BenchFindJob < ApplicationJob
  def perform(customer, note:, **) = customer.name + note
end
