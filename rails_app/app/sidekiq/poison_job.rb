# frozen_string_literal: true

# Takes its whole process down, as a broken C extension does. Not part of the demo's mix.
class PoisonJob
  include Sidekiq::Job

  def perform(*)
    Process.kill(:KILL, Process.pid)
  end
end
