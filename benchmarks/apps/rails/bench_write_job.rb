# frozen_string_literal: true

# An ActiveJob with one database write.
class BenchWriteJob < ApplicationJob
  def perform(*)
    record("bench", 1)
  end
end
