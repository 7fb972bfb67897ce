# frozen_string_literal: true

require "sidekiq_bridge/sidecar/http/listener"
require "sidekiq_bridge/sidecar/process/first_process"
require "sidekiq_bridge/sidecar/process/job_server"
require "sidekiq_bridge/sidecar/process/signals"
require "sidekiq_bridge/sidecar/sidekiq/forks"

module SidekiqBridge
  module Sidecar
    # A Puma worker of a cluster, after the fork.
    class ClusterWorker
      NO_START = 70
      BEAT_SECONDS = 1
      # Seconds that the others wait for the first process's hooks.
      LONGEST_WAIT_SECONDS = 10

      # `first`: it does what a sidecar does once.
      def initialize(settings, index, shared, probes, state_files, master_pid, restarts, first:)
        @settings = settings
        @index = index
        @shared = shared
        @probes = probes
        @state_files = state_files
        @master_pid = master_pid
        @restarts = restarts
        @first = first
      end

      def run
        @signals = Signals.new([*Signals::NAMES, RollingRestart::RETIRE])
        trap("CHLD", "DEFAULT")
        trap("HUP", "IGNORE") # a terminal sends it to the whole group, but only the master acts on it
        Forks.on_fork { release }
        start
        beat until asked_to_stop?
        @worker.stop
        @own.close
        @worker.abandoned? ? exit!(0) : exit(0)
      end

      private

      # In a child that a job forks.
      def release
        @signals.release
        trap("HUP", "DEFAULT")
      end

      def start
        @settings.reread_secrets
        @own = Listener.new(@settings.address.private(@index, @state_files.directory)).open
        @worker = JobServer.new(@settings, listeners: [@shared, @own], probes: @probes, index: @index, state_files: @state_files,
          on_drain: method(:drain_all), restarts: @restarts)
        @first_process = FirstProcess.new(@state_files, first: @first, lead: method(:lead), resign: @worker.method(:resign))
        wait_for_first unless @first
        @worker.start(first: @first)
        @signals.arm
        beat
        ::Sidekiq.logger.info { "Sidecar worker #{@index} ready on #{@worker.url}, #{@settings.threads} slots" }
      rescue => e
        ::Sidekiq.logger.error { "Sidecar worker #{@index}: #{e.class}: #{LogText.line(e.message)}" }
        @own&.close
        exit!(NO_START)
      end

      # Beats once a second: waits for a signal, then publishes its state to the siblings. It ends when its master has
      # ended.
      def asked_to_stop?
        case @signals.next(BEAT_SECONDS)
        when "TERM", "INT" then return true
        when "TSTP" then @worker.drain
        when "TTIN" then Signals.log_backtraces
        when RollingRestart::RETIRE then @worker.retire
        end
        Process.ppid != @master_pid || @worker.retired?
      end

      # A hook at :startup may set its own traps.
      def lead
        @worker.lead
        @signals.arm
      end

      # The first process starts first: a server on a port that a hook starts is then its own.
      def wait_for_first
        deadline = Process.clock_gettime(Process::CLOCK_MONOTONIC) + LONGEST_WAIT_SECONDS
        sleep 0.01 until @state_files.states.any? || Process.clock_gettime(Process::CLOCK_MONOTONIC) > deadline
      end

      def beat
        @first_process.look
        @state_files.publish(@index, @worker.worker_state.to_h)
      end

      # A client asked one Puma worker, but means the whole sidecar: the master passes the request on. A master that has
      # ended is not this process's parent any more, and its pid may be another's.
      def drain_all
        @worker.drain
        Process.kill("TSTP", @master_pid) if Process.ppid == @master_pid
      end
    end
  end
end
