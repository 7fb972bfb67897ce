# frozen_string_literal: true

require "json"
require "sidekiq_bridge/results/current"
require "sidekiq_bridge/results/encoded"
require "sidekiq_bridge/results/following"
require "sidekiq_bridge/results/store"
require "sidekiq_bridge/stock"

module SidekiqBridge
  module Results
    FIELD = "bridge_track"
    NO_ERROR = {"error_class" => "", "error_message" => "", "retry_at" => "", "lost" => "", "result" => ""}.freeze
    GONE = %w[at total message result lost error_class error_message state meta started_at finished_at retry_at language run].to_h { |name| [name, ""] }.freeze

    module_function

    # The job's own field decides, then BRIDGE_TRACK.
    def tracked?(job)
      own = job[FIELD]
      return own == true unless own.nil?
      named.include?("*") || named.include?(class_of(job))
    end

    def named = (@named ||= ENV.fetch("BRIDGE_TRACK", "").split(",").map(&:strip))

    # The class that a job is about: the ActiveJob inside its wrapper.
    def class_of(job) = (job["wrapped"] || job["class"]).to_s

    # An outage of Redis must not fail a job that is done, or stop a push that Sidekiq itself would report.
    def quietly
      yield
    rescue => e
      ::Sidekiq.logger.error { "the result of a tracked job was not written: #{e.class}: #{e.message}" }
    end

    # The same for the end of a job and the push of what follows it: a crash leaves both, or neither.
    def in_one_step(&) = quietly { Scripts.in_one_step(&) }

    # Notes a tracked job before its push. A retry that Sidekiq's poller pushes again keeps its state.
    class Client
      def call(_job_class, job, _queue, _redis_pool)
        Results.quietly { queued(job) } if Results.tracked?(job) && !job["retry_count"] && !testing?
        yield
      end

      private

      # Sidekiq::Testing keeps jobs in memory, or runs them at once: no worker writes their ends.
      def testing? = defined?(::Sidekiq::Testing) && ::Sidekiq::Testing.enabled?

      def queued(job)
        Store.mark(job["jid"], "queued", GONE.merge("class" => Results.class_of(job), "queued_at" => job["at"] || Store.now))
      end
    end

    # Around all other middleware of a process of Sidekiq: notes the start and the end of tracked jobs.
    class Server
      # A run in a process of Sidekiq.
      Run = Struct.new(:jid, :run, :value) do
        def inflight = nil

        def tell(fields) = Store.mark(jid, "running", fields, run: run, only: true)
      end

      def call(_instance, job, _queue, &job_code)
        Results.tracked?(job) ? perform(job, &job_code) : yield
      end

      private

      def perform(job, &job_code)
        run = Run.new(job["jid"], "#{Process.pid}-#{Thread.current.object_id.to_s(36)}-#{Store.now}")
        known = {"class" => Results.class_of(job), "language" => "ruby", "started_at" => Store.now}
        Results.quietly { Store.mark(run.jid, "running", known, run: run.run) }
        Current.with(run, &job_code)
        done(run, job)
      rescue Exception => e # the job's own, and Sidekiq's own ends # rubocop:disable Lint/RescueException
        failed(run, e)
        raise
      end

      def done(run, job)
        result = Encoded.of(run.value)
        ::Sidekiq.logger.error { "jid=#{run.jid} is done, but its result is not stored: #{result.lost}. Return an id or a small object" } if result.lost
        ending = {"finished_at" => Store.now, "result" => result.json.to_s, "lost" => result.lost.to_s}
        Results.in_one_step do
          Following.done(job, result)
          Store.settle(run.jid, "done", NO_ERROR.merge(ending), run: run.run)
        end
      end

      # Sidekiq's retry code has yet to decide: where the job dies, Died says so.
      def failed(run, error)
        status, fields = Stock.no_end?(error) ? ["queued", {}] : ["retry", {"error_class" => error.class.name.to_s, "error_message" => error.message.to_s}]
        Results.quietly { Store.settle(run.jid, status, fields, run: run.run) }
      end
    end

    # Inside all other middleware: notes what the job has returned. The others need not hand it on.
    class Capture
      def call(_instance, _job, _queue)
        value = yield
        run = Current.get
        run.value = value if run
        value
      end
    end

    # A death handler.
    module Died
      def self.call(job, error)
        known = {"class" => Results.class_of(job), "error_class" => error.class.name.to_s, "error_message" => error.message.to_s}
        ending = known.merge("result" => "", "lost" => "", "finished_at" => Store.now)
        Results.in_one_step do
          Following.died(job, error)
          Store.settle(job["jid"], "dead", ending, only_known: !Results.tracked?(job))
        end
      end
    end
  end
end
