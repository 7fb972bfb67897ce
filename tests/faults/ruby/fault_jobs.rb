# frozen_string_literal: true

# The jobs of the fault tests, beside those that all tests share. Each run stands in the ledger with its beginning and its end.

require_relative "../../support/ruby/jobs"

# Fails in its first run, and is done in its second.
class FailOnceJob
  include JOB
  include Listed

  sidekiq_retry_in { 1 }

  def perform
    note("started")
    if Once.first?(jid)
      note("failed")
      raise ArgumentError, "the first run fails on purpose"
    end
    note("done")
  end
end

module Once
  # Whether this is the first call for this name, in whatever process.
  def self.first?(name)
    File.open(File.join(File.dirname(Ledger::PATH), "once-#{name}"), File::WRONLY | File::CREAT | File::EXCL).close
    true
  rescue Errno::EEXIST
    false
  end
end

# Kills the process that runs it, every time.
class KillerJob
  include JOB
  include Listed

  def perform
    note("started")
    Process.kill("KILL", Process.pid)
    sleep
  end
end

class NothingJob
  include JOB

  def perform = nil
end
