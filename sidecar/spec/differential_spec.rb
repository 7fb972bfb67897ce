# frozen_string_literal: true

require_relative "spec_helper"
require "sidekiq/api"

# The same payloads through stock Sidekiq's Processor, which writes to Redis, and through ours, which tells.
RSpec.describe "Compared with Sidekiq's own Processor" do
  TIMES = %w[failed_at retried_at].freeze

  let(:work_class) { Struct.new(:job, :queue_name) { def acknowledge = nil } }

  def stock_processor
    return Sidekiq::Processor.new(nil, Sidekiq.options) if SIDEKIQ < Gem::Version.new("6.5")
    return Sidekiq::Processor.new(Sidekiq) if SIDEKIQ < Gem::Version.new("7")
    Sidekiq::Processor.new(Sidekiq.default_configuration.default_capsule) {}
  end

  # The job that stock Sidekiq leaves behind: [place, payload].
  def stock(text)
    RedisServer.flush
    run_stock(text)
    %w[retry dead].each do |set|
      member, = Sidekiq.redis { |connection| connection.zrange(set, 0, -1) }
      return [set, member] if member
    end
    ["none", nil]
  end

  # On a thread of its own, as some of the jobs end theirs.
  def run_stock(text)
    Thread.new do
      Thread.current.report_on_exception = false
      stock_processor.send(:process, work_class.new(text, "default"))
    end.join
  rescue Exception # rubocop:disable Lint/RescueException
    nil # the processor always raises what the job raised
  end

  # The same from our answer, spliced as the worker does.
  def ours(text)
    answer = outcome_of(text.dup)
    place = answer.dig("next", "place") || "none"
    fields = answer.dig("next", "fields")
    [place, fields && JSON.generate(JSON.parse(text).merge(fields))]
  end

  def comparable((place, text))
    return [place] unless text
    payload = JSON.parse(text)
    times = payload.slice(*TIMES).transform_values(&:class)
    # Ruby 3.1 puts the line of source that failed below the message.
    message = payload["error_message"]&.lines&.first&.chomp
    [place, payload.keys, payload.except("error_backtrace", "error_message", *TIMES), message, times]
  end

  now = (Sidekiq::VERSION.to_i >= 8) ? (Time.now.to_f * 1000).to_i : Time.now.to_f
  cases = {
    "a job that is done" => {},
    "a first failure" => {"class" => "FailingJob"},
    "a later failure" => {"class" => "FailingJob", "retry_count" => 3, "failed_at" => now, "error_message" => "failed", "error_class" => "X"},
    "a failure after the Web UI's retry" => {"class" => "FailingJob", "retry_count" => -1, "failed_at" => now},
    "the last failure" => {"class" => "FailingJob", "retry_count" => 24, "failed_at" => now},
    "a limit of its own" => {"class" => "FailingJob", "retry" => 2, "retry_count" => 1, "failed_at" => now},
    "no retry" => {"class" => "FailingJob", "retry" => false},
    "retry 0" => {"class" => "FailingJob", "retry" => 0},
    "retry 0, not to be buried" => {"class" => "FailingJob", "retry" => 0, "dead" => false},
    "retry absent" => {"class" => "FailingJob", "retry" => nil},
    "retry absent, the class says no" => {"class" => "NoRetryJob", "retry" => nil},
    "retry as text" => {"class" => "FailingJob", "retry" => "7"},
    "another queue for retries" => {"class" => "FailingJob", "retry_queue" => "low"},
    "a backtrace" => {"class" => "FailingJob", "backtrace" => true},
    "a long message" => {"class" => "FailingJob", "args" => ["é" * 20_000]},
    "retry_in kills" => {"class" => "HookedJob", "args" => ["kill"]},
    "retry_in discards" => {"class" => "HookedJob", "args" => ["discard"]},
    "retry_in fails" => {"class" => "HookedJob", "args" => ["raise"]},
    "retry_for is over" => {"class" => "FailingJob", "retry_for" => 1, "failed_at" => now - 100_000, "retry_count" => 1},
    "unknown fields" => {"class" => "FailingJob", "bid" => "b", "zzz" => {"a" => [1.0, 2**80]}},
    "an unknown class" => {"class" => "NoSuchJob"},
    "a class that is not a text" => {"class" => 5},
    "an odd class name" => {"class" => "a;b"},
    "exit" => {"class" => "ExitingJob", "args" => ["exit"]},
    "throw" => {"class" => "ExitingJob", "args" => ["throw"]},
    "no memory" => {"class" => "ExitingJob", "args" => ["memory"]},
    "Interrupt" => {"class" => "ExitingJob", "args" => ["interrupt"]},
    "wrong number of arguments" => {"class" => "HookedJob", "args" => [1, 2, 3]},
    "middleware that changes the arguments" => {"class" => "FailingJob", "change" => ["changed"]}
  }

  cases.each do |name, fields|
    it "leaves the same behind: #{name}" do
      text = payload(fields)
      expect(comparable(ours(text))).to eq(comparable(stock(text)))
    end
  end
end
