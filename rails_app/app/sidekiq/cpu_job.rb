# frozen_string_literal: true

# Burns one core for the given milliseconds of CPU time.
class CpuJob
  include Sidekiq::Job

  def perform(milliseconds = 5)
    enough = cpu_ms + milliseconds
    Integer.sqrt(rand(1 << 64)) while cpu_ms < enough
  end

  private

  def cpu_ms
    Process.clock_gettime(Process::CLOCK_THREAD_CPUTIME_ID, :float_millisecond)
  end
end
