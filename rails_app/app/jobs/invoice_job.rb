# frozen_string_literal: true

# Keyword arguments, a value with its own serializer, and callbacks around.
class InvoiceJob < ApplicationJob
  queue_as :critical
  before_perform { |job| job.record("before_perform", job.arguments.first[:number]) }
  after_perform { |job| job.record("after_perform", job.arguments.first[:number]) }

  def perform(number:, total:, note: nil)
    record("invoiced", "#{number}: #{total} #{note}".strip)
  end

  public :record
end
