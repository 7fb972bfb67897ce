# frozen_string_literal: true

# An ActiveJob with one database write.
class BenchWriteJob < ApplicationJob
  def perform(number)
    record("bench", number)
  end
end
