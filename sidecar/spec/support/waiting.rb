# frozen_string_literal: true

# Waits for conditions, never for luck.
module Waiting
  def wait_until(what = "the condition", seconds: 10)
    deadline = Process.clock_gettime(Process::CLOCK_MONOTONIC) + seconds
    until (result = yield)
      raise "waited #{seconds} s for #{what}" if Process.clock_gettime(Process::CLOCK_MONOTONIC) > deadline
      sleep 0.005
    end
    result
  end
end
