# frozen_string_literal: true

require "sidekiq_bridge/moves/change"
require "sidekiq_bridge/moves/reader"

module SidekiqBridge
  # Classes that move from Ruby to Python, a percent at a time; the worker's `bridge move` has all of it.
  module Moves
    # A change that makes no sense. Its message says why.
    class Refused < ArgumentError; end

    module_function

    # Returns a Row for each class that moves, by name.
    def all = Reader.new.rows

    # Returns what shadow runs of a class have found, the latest first: hashes with jid, at, what, ruby and python.
    def differences(job_class) = Reader.new.differences(job_class)

    # Runs this share of the jids in Python from now on. Raises Refused.
    def percent(job_class, number) = Change.new(job_class).percent(number)

    # Runs the whole class in Ruby from now on. Raises Refused.
    def back(job_class) = Change.new(job_class).back
  end
end
