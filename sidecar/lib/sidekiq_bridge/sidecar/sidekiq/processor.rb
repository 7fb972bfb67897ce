# frozen_string_literal: true

require "sidekiq/processor"
require "sidekiq_bridge/sidecar/sidekiq/changes"
require "sidekiq_bridge/sidecar/sidekiq/outcome"
require "sidekiq_bridge/sidecar/sidekiq/parsed_once"
require "sidekiq_bridge/sidecar/sidekiq/python_code"
require "sidekiq_bridge/sidecar/sidekiq/thread_interrupts"
require "sidekiq_bridge/sidecar/sidekiq/throttling"
require "sidekiq_bridge/sidecar/sidekiq/trace_context"
require "sidekiq_bridge/sidecar/sidekiq/tracked_run"

module SidekiqBridge
  module Sidecar
    # Sidekiq's own Processor, one for each slot, with both ends replaced. The job comes from the worker, and the
    # outcome goes to the worker, instead of Redis. Sidekiq's code, and the patches of gems to it, do the rest.
    class JobProcessor < ::Sidekiq::Processor
      NOTHING_LENT = {}.freeze

      # Sidekiq's unit of work: the payload as Redis held it.
      Work = Struct.new(:job, :queue_name, :acknowledged) do
        def queue = "queue:#{queue_name}"

        def acknowledge
          self.acknowledged = true
        end

        def requeue = nil
      end

      # Wraps the app's reloader: checks the class inside its unit of work, before Sidekiq makes the instance.
      GuardedReloader = Struct.new(:reloader, :processor) do
        def call
          reloader.call do
            processor.check_class
            yield
          end
        end
      end

      # Does the same without an app's reloader: Sidekiq's own only calls its block, and would make a closure of it.
      NoReloader = Struct.new(:processor) do
        def call
          processor.check_class
          yield
        end
      end

      # `adapter` is the VersionAdapter of the loaded Sidekiq.
      def equip(adapter:, retrier:, guard:)
        @adapter = adapter
        @retrier = retrier
        @guard = guard
        equip_capsules
        @reloader = adapter.no_reloader?(@reloader) ? NoReloader.new(self) : GuardedReloader.new(@reloader, self)
        self
      end

      # Performs the run; never raises.
      def call(run)
        prepare(run)
        @postponed = Throttling.outcome(run.job)
        catch(run) { process(@work) } unless @postponed
        conclude
      rescue Exception => e # the job's own, after Sidekiq's retry code # rubocop:disable Lint/RescueException
        conclude(e)
      ensure
        @run = @work = @job_hash = @tracked = nil
      end

      # Returns the outcome of a run whose thread is gone: a failure by the same rules.
      def call_killed(run)
        prepare(run)
        catch(run) { process(@work, killed: true) }
        conclude
      rescue Exception => e # rubocop:disable Lint/RescueException
        conclude(e)
      end

      # -- what Sidekiq, its jobs and our middleware call

      # Iterable jobs call it (`_context`).
      def stopping? = @run&.stopping? || false

      def interrupted(payload)
        @requeue = payload
      end

      # The job's original hash, without the entries that #dispatch adds for middleware.
      def without_lent(hash)
        @lent.each_with_object(hash.dup) { |(key, own), copy| own.nil? ? copy.delete(key) : copy[key] = own }
      end

      def check_class
        PythonCode.define_placeholder(@run.job) if @run.python?
        @refusal = @guard.refusal(@run.job) { |name| @adapter.lookup(self, name) }
        throw @run if @refusal
      end

      private

      def prepare(run)
        run.started
        ParsedOnce.offer(run.job)
        @run = run
        @work = Work.new(run.job.payload, run.job.queue, false)
        @refusal = @requeue = @postponed = nil
        @lent = NOTHING_LENT
        @retrier.prepare(run)
        @tracked = TrackedRun.of(run)
        @config = @capsules.fetch(run.job.queue, @default_config) if @capsules
      end

      # Sidekiq 7 and 8.0 ask the capsule of a job's queue for the middleware; later ones do not.
      def equip_capsules
        return unless defined?(::Sidekiq::Capsule) && @config.is_a?(::Sidekiq::Capsule)
        capsules = @adapter.capsules_by_queue
        @default_config, @capsules = @config, capsules if capsules.any?
      end

      def process(work, killed: false)
        @killed = killed
        super(work)
      end

      # Sidekiq 7 and 8 let Sidekiq::Shutdown in here; it must only hit the job's own code (Run#interruptible).
      def dispatch(job_hash, queue, jobstr)
        lend(job_hash, @run.job.trace) if @run.job.trace
        @job_hash = job_hash if @run.python?
        TraceContext.with(@run.job) { Interrupts.closed { super } }
      end

      # Middleware that continues traces reads these fields: it must find the worker's span, not the one of the push.
      def lend(job_hash, trace)
        @lent = trace.keys.to_h { |key| [key, job_hash[key]] }
        job_hash.update(trace)
      end

      def execute_job(instance, args)
        raise ThreadKilled, "the job ended its own thread" if @killed
        return @tracked.perform { super } if @tracked
        @run.python? ? PythonCode.perform(instance, @run, changes) { super } : super
      end

      # The effect of middleware on the job, for its code in Python.
      def changes = Changes.between(::Sidekiq.load_json(@run.job.payload), without_lent(@job_hash))

      # Does not count: the worker does.
      def stats(_jobstr, _queue) = yield

      def conclude(error = nil)
        if @postponed then @postponed
        elsif @refusal then Outcome.refused(@refusal)
        elsif error.nil? then @work.acknowledged ? done : Outcome.shutdown(asked: @run.told_to_stop?)
        elsif @requeue && error.is_a?(::Sidekiq::JobRetry::Skip) then Outcome.interrupted(@requeue)
        else failed(error)
        end
      end

      def done = @tracked ? Outcome.returned(@tracked.result) : Outcome.done

      def failed(error)
        decision = @work.acknowledged ? @retrier.decision : @retrier.last_resort(error)
        Outcome.failed(Encodable.text(error.class.name || error.class), @retrier.message_of(error), decision)
      end
    end
  end
end
