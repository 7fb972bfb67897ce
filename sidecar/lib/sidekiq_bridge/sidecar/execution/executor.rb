# frozen_string_literal: true

require "sidekiq_bridge/sidecar/execution/delivery"
require "sidekiq_bridge/sidecar/execution/delivery_records"
require "sidekiq_bridge/sidecar/execution/python_run"
require "sidekiq_bridge/sidecar/execution/run"
require "sidekiq_bridge/sidecar/execution/slots"
require "sidekiq_bridge/sidecar/sidekiq/outcome"

module SidekiqBridge
  module Sidecar
    # Runs each job once and remembers its outcome. A transport submits a delivery and gets the outcome.
    #
    # The life of one delivery: #submit admits it as a Run, a thread of Slots performs the run, and #finished settles it
    # with its Outcome: done, failed or interrupted. #abandon releases a run that does not end at a stop: its worker gives
    # the job back. The DeliveryRecords keep the outcome for a worker that asks again.
    class Executor
      SHUTDOWN_GRACE_SECONDS = 3
      # Workers that stop, remembered for jobs that they sent before. The sidecar forgets the first of more.
      MOST_QUIET_WORKERS = 1_000

      def initialize(slots:, new_runner:, counters:, records: DeliveryRecords.new)
        @slots = Slots.new(slots, new_runner: new_runner, on_finish: method(:finished))
        @counters = counters
        @records = records
        @lock = Mutex.new
        @idle = ConditionVariable.new
        @active = {}.compare_by_identity # or each run would get an object id, and a place in the table of those
        @draining = false
        @quiet_workers = {}
        @abandoned = false
      end

      def start
        @slots.start
      end

      def slot_count = @slots.size

      def busy = @active.size

      def draining? = @draining

      # True if threads are left that would keep the process from ending.
      def abandoned? = @abandoned

      # Returns the delivery of record: the given one, or the known one if the job was delivered before. A listener (its
      # #call, or a block) gets the outcome and that delivery once: at once, or later on a slot's thread.
      def submit(delivery, job, listener = nil, only_if_known: false, &block)
        delivery = @lock.synchronize { known(delivery.identity, delivery.token) || admit(delivery, job, only_if_known) }
        listener ||= block
        delivery.on_outcome(listener) if listener
        delivery
      end

      # Joins a known delivery in the same way; returns nil for an unknown one.
      def join(identity, token, listener = nil)
        delivery = find(identity, token)
        delivery.on_outcome(listener) if delivery && listener
        delivery
      end

      # Runs code of the app that is not a job on a slot's thread, behind the jobs that wait. Returns the Errand.
      def lend(&work) = Errand.new(&work).tap { |errand| @slots << errand }

      # Has the slots' threads read a stream: the thread that reads a job runs it.
      def read(stream) = @slots.read(stream)

      # True if jobs wait for a thread, so that outcomes follow each other closely.
      def backlog? = @slots.backlog?

      # True if this writer may keep its replies: its #send_held is called soon.
      def hold(writer) = @slots.hold(writer)

      # Returns the known delivery, or nil; refuses a superseded one. An id may come as one text.
      def find(identity, token = nil)
        identity, token = Delivery.parts(identity) unless token
        @lock.synchronize { known(identity, token) } if identity
      end

      def interrupt(id)
        fetch(id).run.interrupt
      end

      def cancel(id, exception)
        fetch(id).run.cancel(exception)
      end

      # Their worker runs the Python code of these deliveries: their runs go on waiting.
      def heard_of(ids)
        parts = ids.filter_map { |id| Delivery.parts(id) }
        @lock.synchronize { parts.filter_map { |identity, token| @records[identity, token] }.reject(&:superseded?) }.each { |delivery| delivery.run.heard }
      end

      # The worker reports the end of a delivery's Python code. Returns the delivery.
      def performed(id, ending)
        fetch(id).tap { |delivery| delivery.run.performed(ending) }
      end

      def fetch(id)
        find(id) || raise(Refusals.unknown)
      end

      # Refuses new jobs from now on; asks running jobs to stop at their next checkpoint. A job without checkpoints goes
      # on.
      def drain
        @lock.synchronize do
          @draining = true
          @active.each_key(&:request_checkpoint)
        end
      end

      # Asks the jobs of one worker to stop at their next checkpoint, and those that it delivers from now on. Returns the
      # number of its running jobs.
      def quiet_worker(identity)
        @lock.synchronize do
          @quiet_workers.shift if @quiet_workers.size >= MOST_QUIET_WORKERS
          @quiet_workers[identity] = true
          @active.each_key.select { |run| run.of?(identity) }.each(&:request_checkpoint).size
        end
      end

      # Drains, gives running jobs `timeout_seconds`, then ends them with Sidekiq::Shutdown.
      def stop(timeout_seconds)
        drain
        wait_until_idle(timeout_seconds)
        running.each(&:terminate)
        wait_until_idle(SHUTDOWN_GRACE_SECONDS)
        abandon(running)
        @slots.close
      end

      private

      # -- submitted

      def known(identity, token)
        delivery = @records[identity, token]
        raise Refusals.superseded if delivery&.superseded?
        delivery
      end

      def admit(delivery, job, only_if_known)
        other = @records.latest(delivery.lineage)
        raise Refusals.superseded if @records.superseded?(delivery, other)
        return take_over(delivery, other) if other && !other.run.given_back? && delivery.may_take_over?(other)
        raise Refusals.running if other && !other.run.finished?
        not_here(delivery) if only_if_known
        begin_run(delivery, job).tap { other&.supersede }
      end

      # -- performed, by a slot's thread

      def begin_run(delivery, job)
        raise Refusals.draining if @draining
        raise Refusals.no_slot if @active.size >= slot_count
        run = job.python_lease ? PythonRun.new(job) : Run.new(job)
        run.request_checkpoint if @quiet_workers.any? && @quiet_workers.key?(delivery.identity)
        delivery.attach(run)
        @active[run] = true
        @records.add(delivery)
        @slots << run
        delivery
      end

      def take_over(delivery, other)
        delivery.attach(other.run)
        @records.add(delivery)
        @records.finish(delivery, monotonic) if delivery.run.finished?
        other.supersede
        delivery
      end

      def not_here(delivery)
        @records.asked(delivery, monotonic)
        raise Refusals.unknown
      end

      # -- finished, failed or interrupted

      # Frees the slot before it passes the outcome on: the listener may deliver the next job at once.
      def finished(run, outcome)
        @lock.synchronize do
          return unless @active.delete(run)
          now = monotonic
          run.settle(outcome, now)
          run.deliveries.each do |delivery|
            delivery.run_ended
            @records.finish(delivery, now)
          end
          @idle.broadcast if @active.empty?
        end
        @counters.count(outcome, run.duration_ms)
        run.notify
      end

      # -- released

      # Releases runs that no exception could end: their workers give these jobs back, as Sidekiq does.
      def abandon(runs)
        runs.each { |run| finished(run, Outcome.shutdown) }
        @abandoned = runs.any?
      end

      def running = @lock.synchronize { @active.keys }

      def wait_until_idle(seconds)
        deadline = monotonic + seconds
        @lock.synchronize do
          until @active.empty?
            left = deadline - monotonic
            break if left <= 0
            @idle.wait(@lock, left)
          end
        end
      end

      def monotonic = Process.clock_gettime(Process::CLOCK_MONOTONIC)
    end
  end
end
