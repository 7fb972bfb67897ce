# frozen_string_literal: true

# Works through a list in steps. With iterable jobs (Sidekiq 7.3) it goes on after an
# interruption; an older Sidekiq starts it again.
class CountdownJob
  if SidekiqFeatures.iterable_jobs?
    include Sidekiq::IterableJob

    def build_enumerator(steps, _seconds = 0, cursor:)
      array_enumerator((1..steps).to_a, cursor: cursor)
    end

    def each_iteration(step, _steps, seconds = 0)
      count(step, seconds)
    end
  else
    include Sidekiq::Job

    def perform(steps, seconds = 0)
      1.upto(steps) { |step| count(step, seconds) }
    end
  end

  private

  def count(step, seconds)
    LedgerEntry.record("step", {"jid" => jid, "class" => self.class.name, "args" => [step]})
    sleep(seconds)
  end
end
