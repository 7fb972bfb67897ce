# frozen_string_literal: true

# Jobs of every kind, loaded by sidecars, by stock Sidekiq processes and by the helper that pushes them. Whatever a job
# does stands in the ledger: one line of JSON for each event, appended in one write.

require "json"
require "sidekiq"

Redis.silence_deprecations = true if defined?(Redis) && Redis.respond_to?(:silence_deprecations=)

module Ledger
  PATH = ENV.fetch("TEST_LEDGER")

  def self.add(event, jid, job_class, args = [], **more)
    line = JSON.generate({event: event, jid: jid, class: job_class, args: args, at: Time.now.to_f, pid: Process.pid, **more})
    File.open(PATH, File::WRONLY | File::APPEND | File::CREAT) { |file| file.syswrite(line + "\n") }
  end

  def self.of(message, event, **more)
    add(event, message["jid"], message["wrapped"] || message["class"], message["args"], **more)
  end

  def self.events_of(jid)
    File.foreach(PATH).filter_map { |line| JSON.parse(line)["event"] if line.include?(jid) }
  end

  # Waits until the test opens the gate of that name (makes the file).
  def self.wait_for_gate(name)
    gates = [name, "all"].map { |gate| File.join(File.dirname(PATH), "gate-#{gate}") }
    sleep 0.01 until gates.any? { |gate| File.exist?(gate) }
  end
end

module Listed
  def note(event, args = []) = Ledger.add(event, jid, self.class.name, args)
end

JOB = defined?(Sidekiq::Job) ? Sidekiq::Job : Sidekiq::Worker

require_relative "odd_outcomes"

class EchoJob
  include JOB
  include Listed
  def perform(*args) = note("done", args)
end

class OtherJob < EchoJob; end

# TracingMiddleware tells which trace it runs in.
class TracedJob < EchoJob; end

# Keeps memory that nothing will ever give back.
class HoardJob
  include JOB
  include Listed
  HOARD = []

  def perform(megabytes)
    HOARD << ("x" * (megabytes * 1_000_000))
    note("done")
  end
end

module Deeply
  module Nested
    class EchoJob < ::EchoJob; end
  end
end

# Runs in so many seconds.
class SleepJob
  include JOB
  include Listed

  def perform(seconds)
    note("started")
    sleep(seconds)
    note("done")
  end
end

# Runs until the test opens its gate.
class GateJob
  include JOB
  include Listed

  def perform(gate)
    note("started", [gate])
    Ledger.wait_for_gate(gate)
    note("done", [gate])
  end
end

# Holds out against every exception: only the end of its process ends it.
class StubbornJob
  include JOB
  include Listed

  def perform
    note("started")
    sleep
  rescue Exception # rubocop:disable Lint/RescueException
    retry
  end
end

# Stops as Sidekiq stops a job at a shutdown, though nobody stops anything.
class StoppingJob
  include JOB
  include Listed

  def perform
    note("started")
    raise Sidekiq::Shutdown
  end
end

class FailJob
  include JOB
  include Listed

  def perform(message = "failed on purpose", *)
    note("failed", [message])
    raise ArgumentError, message
  end
end

# Fails for as long as no gate of that name is open.
class FlakyJob
  include JOB
  include Listed

  def perform(gate)
    unless File.exist?(File.join(File.dirname(Ledger::PATH), "gate-#{gate}"))
      note("failed")
      raise ArgumentError, "not yet"
    end
    note("done")
  end
end

# Fails at its first attempt, and is due again within a second or so.
class OnceFailingJob
  include JOB
  include Listed
  sidekiq_retry_in { 1 }

  def perform
    if Ledger.events_of(jid).empty?
      note("failed")
      raise ArgumentError, "only once"
    end
    note("done")
  end
end

# A poison pill: its process dies at once, as by the kernel's hand.
class KillerJob
  include JOB

  def perform = Process.kill("KILL", Process.pid)
end

class RetryFalseJob < FailJob
  sidekiq_options retry: false
end

class RetryTwoJob < FailJob
  sidekiq_options retry: 2
end

class HookJob < FailJob
  sidekiq_retry_in do |_count, error|
    case error.message
    when "kill" then :kill
    when "discard" then :discard
    when "nil" then nil
    when "raise" then raise "the hook is broken"
    else Integer(error.message)
    end
  end
  sidekiq_retries_exhausted { |message, error| Ledger.of(message, "exhausted", note: error.message) }
end

class LongMessageJob
  include JOB
  def perform = raise("é" * 20_000)
end

class InvalidBytesJob
  include JOB
  def perform = raise("caf\xE9 \xFF".dup.force_encoding("UTF-8"))
end

class ShutdownCausedJob
  include JOB
  include Listed

  def perform(gate)
    note("started")
    Ledger.wait_for_gate(gate)
    note("done")
  rescue Sidekiq::Shutdown
    raise "wrapped"
  end
end

if defined?(Sidekiq::IterableJob) || Gem::Version.new(Sidekiq::VERSION) >= Gem::Version.new("7.3.0")
  require "sidekiq/job/iterable" unless defined?(Sidekiq::IterableJob)

  class StepsJob
    include Sidekiq::IterableJob
    include Listed

    def build_enumerator(steps, *, cursor:) = array_enumerator((1..steps).to_a, cursor: cursor)

    # Stops at the gate, where there is one, in the middle of its steps.
    def each_iteration(step, steps, seconds = 0, gate = nil)
      note("step", [step])
      sleep(seconds)
      Ledger.wait_for_gate(gate) if gate && step == steps / 2
    end

    def on_complete = note("done")

    def on_cancel = note("cancelled")
  end
end

class ChangingMiddleware
  def call(_job, hash, _queue)
    hash["args"] << "changed" if hash["change_args"]
    yield
  end
end

# What a team would put into its configuration; Sidekiq 6.4 has a hash of options, later ones a configuration.
def configure(config, name, variable)
  return unless ENV[variable]
  target = config.respond_to?(:[]=) ? config : Sidekiq.options
  target[name] = ENV[variable].to_i
end

# As OpenTelemetry's instrumentation of Sidekiq does: reads the trace from the job's hash.
class TracingMiddleware
  def call(_instance, message, _queue)
    Ledger.of(message, "traced", trace: message["traceparent"]) if message["class"] == "TracedJob"
    yield
  end
end

Sidekiq.configure_server do |config|
  configure(config, :dead_max_jobs, "TEST_DEAD_MAX_JOBS")
  configure(config, :poll_interval_average, "TEST_POLL_INTERVAL")
  config.server_middleware do |chain|
    chain.add ChangingMiddleware
    chain.add TracingMiddleware
  end
  config.death_handlers << ->(message, error) { Ledger.of(message, "died", note: error.message) }
  config.error_handlers << lambda do |error, context, _config = nil|
    Ledger.of(context[:job] || {}, "error", note: error.class.name)
  end
  %i[startup quiet shutdown heartbeat].each { |event| config.on(event) { Ledger.add(event, nil, nil) } }
end

begin
  require "active_job"
  require "active_job/queue_adapters/sidekiq_adapter"
  ActiveJob::Base.queue_adapter = :sidekiq
  ActiveJob::Base.logger = nil

  class GreetJob < ActiveJob::Base
    def perform(name, greeting: "Hello")
      raise ArgumentError, "nobody" if name.empty?
      Ledger.add("done", provider_job_id, self.class.name, ["#{greeting} #{name}"])
    end
  end
rescue LoadError
  warn "no ActiveJob here"
end
