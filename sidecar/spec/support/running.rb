# frozen_string_literal: true

require "json"

# Runs payloads in this process.
module Running
  def payload(overrides = {})
    JSON.generate({"class" => "TracingJob", "args" => [], "jid" => "0123456789abcdef01234567", "queue" => "default",
      "retry" => true, "created_at" => 1_700_000_000.25, "enqueued_at" => 1_700_000_000.5}.merge(overrides).compact)
  end

  def job(text, **options)
    ::SidekiqBridge::Sidecar::Job.new(text.dup, "default", **options)
  end

  # The outcome of a payload, as a worker would read it. On a thread of its own, as in a slot.
  # Fields of the payload come with text keys, options of the job with symbols.
  def outcome_of(text = nil, allowed: nil, **more)
    fields, options = more.partition { |key, _| key.is_a?(String) }.map(&:to_h)
    run = ::SidekiqBridge::Sidecar::Run.new(job(text || payload(fields), **options))
    runner = nil
    outcome = Thread.new do
      ::SidekiqBridge::Sidecar::Interrupts.closed do
        runner = ::SidekiqBridge::Sidecar::VersionAdapter.current.new_runner(::SidekiqBridge::Sidecar::ClassGuard.new(allowed: allowed))
        runner.call(run)
      end
    end.value
    JSON.parse(outcome.to_json_for("h:1:a/1", "jid", 1.0))
  end

  def new_executor(slots: 2, **options)
    guard = ::SidekiqBridge::Sidecar::ClassGuard.new
    executor = ::SidekiqBridge::Sidecar::Executor.new(slots: slots, counters: ::SidekiqBridge::Sidecar::Counters.new,
      new_runner: -> { ::SidekiqBridge::Sidecar::VersionAdapter.current.new_runner(guard) }, **options)
    executor.start
    (@executors ||= []) << executor
    executor
  end

  def deliver(executor, id: nil, claimed_at_ms: 1, recovered: 0, only_if_known: false, **fields, &block)
    job = job(payload(fields))
    id ||= "h:1:a/#{@token = (@token || 0) + 1}"
    delivery = ::SidekiqBridge::Sidecar::Delivery.new(*::SidekiqBridge::Sidecar::Delivery.parts(id), job, claimed_at_ms, recovered)
    executor.submit(delivery, job, only_if_known: only_if_known, &block)
  end
end
