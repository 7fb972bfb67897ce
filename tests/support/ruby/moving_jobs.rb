# frozen_string_literal: true

# The Ruby classes of tests/support/moving_tasks.py, for jobs whose return value counts.
require_relative "jobs"

# Returns its arguments; "fail" raises.
class ShadowJob
  include JOB
  include Listed

  def perform(*args)
    note("done", args)
    raise ArgumentError, "failed in Ruby" if args.include?("fail")
    args
  end
end
