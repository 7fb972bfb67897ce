# frozen_string_literal: true

# The features of the loaded Sidekiq: the app runs on 6.4 to 8.1.
module SidekiqFeatures
  VERSION = Gem::Version.new(Sidekiq::VERSION)

  def self.since?(version)
    VERSION >= Gem::Version.new(version)
  end

  # sidekiq_retry_in may answer :kill or :discard; before that a symbol raises and the job is lost.
  def self.retry_verdicts?
    since?("6.5.2")
  end

  def self.retry_for?
    since?("7.1.3")
  end

  def self.iterable_jobs?
    since?("7.3.0")
  end

  def self.current_attributes_by_name?
    since?("7.0.0")
  end
end
