# frozen_string_literal: true

# Waits for conditions, never for luck. A sidecar takes many seconds to boot on a busy machine.
module Waiting
  def wait_until(what = "the condition", seconds: 60)
    deadline = Process.clock_gettime(Process::CLOCK_MONOTONIC) + seconds
    until (result = yield)
      raise "waited #{seconds} s for #{what}" if Process.clock_gettime(Process::CLOCK_MONOTONIC) > deadline
      sleep 0.005
    end
    result
  end
end
