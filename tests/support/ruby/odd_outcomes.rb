# frozen_string_literal: true

# Jobs whose hooks leave in the hash what JSON refuses.
class OddOutcomeJob
  include JOB
  include Listed

  OBJECT = Class.new { def to_json(*) = raise(SystemExit) }.new
  VALUES = {"binary" => "\xff".b, "nan" => Float::NAN, "object" => OBJECT, "garbled" => Class.new { def to_json(*) = "{" }.new}.freeze

  sidekiq_retry_in do |_count, _error, hash|
    hash["odd"] = VALUES.fetch(hash["args"].first) if hash
    3600
  end

  sidekiq_retries_exhausted { |hash, _error| hash["odd"] = VALUES.fetch(hash["args"].first) }

  def perform(name)
    note("started", [name])
    raise ArgumentError, "odd"
  end
end

# Leaves something in its thread, and fails.
class LeavingJob
  include JOB
  include Listed

  def perform(how)
    note("seen", [Thread.current[:tenant], Thread.current.thread_variable_get(:tenant)])
    Thread.current[:tenant] = Thread.current.thread_variable_set(:tenant, how) || how
    raise ArgumentError, how if how == "failing"
  end
end
