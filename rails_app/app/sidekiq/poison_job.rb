# frozen_string_literal: true

# Ends its whole process, as a broken C extension does. Not part of the demo's mix.
class PoisonJob
  include Sidekiq::Job

  def perform(*)
    Process.kill(:KILL, Process.pid)
  end
end
