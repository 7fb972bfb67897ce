# frozen_string_literal: true

# An app with stub gems that keep a lock, a batch counter, a tenant, a status and a list of failures.

require_relative "jobs"
%w[sidekiq-unique-jobs sidekiq-batch apartment-sidekiq sidekiq-status sidekiq-failures].each { |name| require_relative "../gems/#{name}" }

# Its code is in Python: tests/support/ruby_middleware_tasks.py.
class ReportJob
  include JOB
  include Listed
  sidekiq_options lock: "until_executed", retry: 1
  sidekiq_retry_in { |_count, error| 3600 if error.class.name == "ValueError" }
  sidekiq_retries_exhausted { |message, error| Ledger.of(message, "exhausted", error: error.class.name) }

  def perform(*args) = note("ruby", args)
end

# The same job, performed in Ruby.
class RubyReportJob < ReportJob
  def perform(outcome = "done", *)
    note("ruby")
    raise(ArgumentError, "failed on purpose") unless outcome == "done"
  end
end
