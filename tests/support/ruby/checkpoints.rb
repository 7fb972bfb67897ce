# frozen_string_literal: true

# An app whose jobs know checkpoints, by every way that gems and Rails have for it. Each job takes a number of steps and
# notes each; a test sees in the ledger when it stopped, and whether it went on where it stopped.

require_relative "jobs"
require_relative "../gems/job-iteration"
require_relative "../gems/activejob-continuation"

STEP_SECONDS = 0.03

ActiveJob::Base.queue_adapter = :sidekiq
ActiveJob::Base.logger = nil

class IterationJob < ActiveJob::Base
  include JobIteration::Iteration

  def build_enumerator(count, cursor:)
    first = cursor ? cursor + 1 : 0
    (first...count).lazy.map { |number| [number, number] }
  end

  def each_iteration(number, _count)
    Ledger.add("step", provider_job_id, self.class.name, [number])
    sleep STEP_SECONDS
  end

  def on_complete = Ledger.add("complete", provider_job_id, self.class.name)
end

class ContinuedJob < ActiveJob::Base
  include ActiveJob::Continuable

  def perform(count)
    catch(:interrupted) do
      each_step(count) do |number|
        Ledger.add("step", provider_job_id, self.class.name, [number])
        sleep STEP_SECONDS
      end
      Ledger.add("complete", provider_job_id, self.class.name)
    end
  end
end

# Asks the launcher itself, as sidekiq-iteration does.
class LauncherJob
  include JOB
  include Listed

  def perform(count, first = 0)
    (first...count).each do |number|
      note("step", [number])
      sleep STEP_SECONDS
      return self.class.set(queue: "own").perform_async(count, number + 1) if Sidekiq::CLI.instance.launcher.stopping?
    end
    note("complete")
  end
end

# Stops as Sidekiq's wiki says: it raises Sidekiq::Shutdown once the launcher says so.
class RaisingJob
  include JOB
  include Listed

  def perform(count)
    count.times do |number|
      note("step", [number])
      sleep STEP_SECONDS
      raise Sidekiq::Shutdown if Sidekiq::CLI.instance.launcher.stopping?
    end
    note("complete")
  end
end

if defined?(Sidekiq::IterableJob)
  class WalkingJob
    include Sidekiq::IterableJob
    include Listed

    def build_enumerator(count, cursor:) = array_enumerator((0...count).to_a, cursor: cursor)

    def each_iteration(number, *)
      note("step", [number])
      sleep STEP_SECONDS
    end

    def on_complete = note("complete")
  end
end
