# frozen_string_literal: true

# The Ruby classes of tests/support/moving_tasks.py, for jobs whose return value counts.
require "sidekiq-bridge/results"
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

# Its code in Python runs inside the middleware.
class InsideJob < FailJob; end

# Returns what Python's coroutine returns as a shadow.
class CoroutineJob < ShadowJob
  def perform(*args) = [true, *super]
end

# Returns what JSON cannot hold, and reports the progress of a job without tracking.
class ObjectJob
  include JOB
  include Listed

  def perform(*args)
    SidekiqBridge.progress(1, total: 2)
    note("done", args)
    (args == ["large"]) ? "x" * 100_000 : Object.new
  end
end

# A module of a gem, around a job.
module Tenanted; end

module Billing
  # A class with much around its perform, for `bridge move --plan`.
  class InvoiceJob
    include JOB
    include Listed
    include Tenanted
    sidekiq_options queue: "invoices", retry: 3, lock: "until_executed", tags: ["money"]
    sidekiq_retry_in { 60 }

    def perform(customer_id, class_name = nil, options = {}) = note("done", [customer_id, class_name, options])
  end
end
