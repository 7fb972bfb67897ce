# frozen_string_literal: true

# Jobs that report results and progress, for sidecars and for Sidekiq's own processes.

require_relative "jobs"
$LOAD_PATH.unshift(File.expand_path("../../../sidecar/lib", __dir__))
require "sidekiq-bridge/results"

module Billing
  class Declined < StandardError; end
end

class TrackedJob
  include JOB
  include Listed
  sidekiq_options bridge_track: true, retry: false

  def perform(kind, *rest)
    note("started", [kind])
    send(kind, *rest)
  end

  def value(value) = value

  def mixed = {"text" => "é", "list" => [1, 2.5, nil, true], symbol: :ok}

  def nothing = nil

  def fail(message) = raise(Billing::Declined, message)

  def object = Object.new

  def infinite = Float::INFINITY

  def large(size) = "x" * size

  def steps(count, gate)
    (1..count).each { |step| note("told", [step, SidekiqBridge.progress(step, count, "step #{step}")]) }
    Ledger.wait_for_gate(gate)
    count
  end

  def in_enumerator = Enumerator.new { |out| out << SidekiqBridge.progress(1, 2) }.next

  def sleep_for(seconds) = sleep(seconds)

  # Another thread of the job is not the job: it stores nothing.
  def in_thread = Thread.new { SidekiqBridge.progress(1, 2) }.value
end

class RetriedJob
  include JOB
  include Listed
  sidekiq_options bridge_track: true, retry: 1
  sidekiq_retry_in { 1 }

  def perform(failures)
    attempts = Ledger.events_of(jid).count("started")
    note("started")
    raise Billing::Declined, "attempt #{attempts}" if attempts < failures
    "attempt #{attempts}"
  end
end

# Tracked by BRIDGE_TRACK alone.
class NamedJob
  include JOB

  def perform = SidekiqBridge.progress(1, 1)
end

# Not tracked.
class PlainRubyJob
  include JOB
  include Listed

  def perform = note("done", [SidekiqBridge.progress(1, 1)])
end

class SumJob
  include JOB
  include Listed
  sidekiq_options queue: "low"

  def perform(*numbers)
    note("done", numbers)
    numbers.sum
  end
end

class AlertJob
  include JOB
  include Listed

  def perform(jid, *rest) = note("told", [jid, *rest])
end

if defined?(ActiveJob::Base)
  class TrackedGreetJob < ActiveJob::Base
    include JOB::Options
    sidekiq_options bridge_track: true

    def perform(name) = "hello #{name}"
  end
end
