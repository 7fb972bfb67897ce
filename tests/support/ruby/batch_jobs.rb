# frozen_string_literal: true

# The jobs of batches, in an app that has batches.

require_relative "jobs"
require "sidekiq-bridge/batches"

class ImportRowJob < EchoJob; end

class AlertJob < EchoJob; end

# Adds a job to the batch that it belongs to.
class AddingJob
  include JOB
  include Listed

  def perform
    SidekiqBridge::Batch.current.jobs { ImportRowJob.perform_async("added") }
    note("done")
  end
end

class SumJob
  include JOB
  sidekiq_options bridge_track: true

  def perform(numbers, *more) = numbers.sum + more.sum
end

class SumJobOf < SumJob
  def perform(first, *more) = first + more.sum
end

# As the gem sidekiq-iteration goes on after an interruption: it pushes the class again, with its cursor as the last argument.
class IteratingJob
  include JOB
  include Listed

  def perform(*args)
    return note("done") if args.last.is_a?(Hash)
    self.class.perform_in(0, *args, {"sidekiq_iteration" => {"cursor_position" => 1, "times_interrupted" => 1}})
    note("done")
  end
end

if defined?(ActiveJob)
  # Fails in its first run. ActiveJob pushes it again, under another jid.
  class RetriedByActiveJob < ActiveJob::Base
    retry_on ArgumentError, wait: 0, attempts: 3

    def perform
      raise ArgumentError, "the first run fails" if executions == 1
      Ledger.add("done", provider_job_id, self.class.name, [])
    end
  end
end
