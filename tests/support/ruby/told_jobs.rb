# frozen_string_literal: true

# An app with stub gems that release a lock, or count, when a job dies.

require_relative "jobs"
%w[sidekiq-unique-jobs sidekiq-batch].each { |name| require_relative "../gems/#{name}" }

Sidekiq.configure_server do |config|
  config.death_handlers << lambda do |job, _error|
    next unless (gate = job["slow_death"])
    Ledger.of(job, "dying", pid: Process.pid)
    Ledger.wait_for_gate(gate)
  end
end

# Their code is in Python; hooks of the class stay in Ruby.
class NativeFailJob
  include JOB
  sidekiq_retries_exhausted { |message, error| Ledger.of(message, "exhausted", note: error.class.name) }

  def perform(*) = raise("this job is Python's")
end

class NativePatientJob < NativeFailJob
end

class NativeGateJob < NativeFailJob
end

# The class's own hook keeps its jobs out of the dead set (Sidekiq 7 and later).
class NativeLambdaJob
  include JOB
  sidekiq_retries_exhausted { :discard }

  def perform = raise("this job is Python's")
end

if defined?(ActiveJob::Base)
  require_relative "../gems/activejob-uniqueness"

  class NativeUniqueJob < ActiveJob::Base
    def perform(*) = raise("this job is Python's")

    # Pushes it as the adapter does, without retries. False when another one holds the lock.
    def self.push_once(*arguments)
      job = new(*arguments)
      return false unless ActiveJob::Uniqueness.lock(job)
      Sidekiq::Client.push("class" => ActiveJob::QueueAdapters::SidekiqAdapter::JobWrapper, "wrapped" => name, "queue" => "default", "retry" => 0, "args" => [job.serialize])
    end
  end
end
