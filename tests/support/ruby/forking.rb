# frozen_string_literal: true

# Jobs that fork: with a block, or by going on in both processes.

require_relative "jobs"

class ForkingJob
  include JOB
  include Listed

  def perform(how)
    child = (how == "signal") ? fork { sleep } : fork
    finish_child(how) unless child
    sleep 0.1
    Process.kill("TERM", child) if how == "signal"
    _, status = Process.wait2(child)
    note("done", [how, status.termsig || status.exitstatus])
  end

  def finish_child(how)
    case how
    when "exit" then exit(3)
    when "raise" then raise "in the child"
    when "stay" then sleep 60
    end
  end
end

class LeavingJob
  include JOB
  include Listed

  def perform
    child = fork { sleep 60 }
    Process.detach(child)
    note("done", [child])
  end
end

# Ends its process: the job goes on in a copy.
class DaemonJob
  include JOB
  include Listed

  def perform
    Process.daemon(true, true)
    note("done")
  end
end
