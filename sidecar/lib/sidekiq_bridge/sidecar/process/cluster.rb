# frozen_string_literal: true

require "fileutils"
require "tmpdir"
require "sidekiq_bridge/sidecar/http/listener"
require "sidekiq_bridge/sidecar/process/cluster_worker"
require "sidekiq_bridge/sidecar/process/rolling_restart"
require "sidekiq_bridge/sidecar/process/signals"
require "sidekiq_bridge/sidecar/process/state_files"
require "sidekiq_bridge/sidecar/process/systemd"
require "sidekiq_bridge/sidecar/sidekiq/forks"

module SidekiqBridge
  module Sidecar
    # A sidecar of several processes: this one loads the app once and forks. It serves no requests: it keeps its Puma
    # workers alive and passes signals on.
    #
    # It does not use Puma's own cluster, which closes its listeners on TERM. A draining sidecar must still answer
    # joins, cancels and probes until its last job has ended.
    class Cluster
      # Seconds beyond the jobs' timeout, for stuck jobs and the last answers.
      MARGIN_SECONDS = 15
      # The master waits before it replaces a Puma worker that dies younger than this.
      MIN_AGE_SECONDS = 2
      # Seconds between two looks at the Puma workers' memory.
      CHECK_SECONDS = 1
      # Seconds between two looks until all Puma workers have started.
      START_SECONDS = 0.2

      def initialize(settings)
        @settings = settings
        @workers = {}
        @first = nil # a pid
        @restarts = Hash.new { |hash, index| hash[index] = Hash.new(0) }
        @rolling_restart = RollingRestart.new(max_rss_bytes: settings.max_rss_bytes, start: method(:start_another),
          retire: method(:retire))
        @stopping = false
        @manager = Systemd.new(settings.watchdog_seconds)
      end

      def run
        @signals = Signals.new([*Signals::NAMES, "CHLD", "HUP"], forks: true)
        @shared = Listener.new(@settings.address).open
        @probes = @settings.metrics_address && Listener.new(@settings.metrics_address).open
        @directory = Dir.mktmpdir("sidekiq-bridge-")
        prepare_to_fork
        @settings.processes.times { |index| start_worker(index) }
        supervise
      ensure
        tidy_up if @master_pid == Process.pid
      end

      private

      # Closes connections that the forks must not share, and warms up the memory that they should share.
      def prepare_to_fork
        @master_pid = Process.pid
        ::ActiveRecord::Base.connection_handler.clear_all_connections! if defined?(::ActiveRecord::Base)
        Process.respond_to?(:warmup) ? Process.warmup : GC.start
      end

      def start_worker(index)
        restarts, first = @restarts[index], @first.nil?
        pid = Forks.ours { fork { ClusterWorker.new(@settings, index, @shared, @probes, StateFiles.new(@directory), @master_pid, restarts, first: first).run } }
        @workers[pid] = [index, now]
        appoint(pid) if first
        pid
      end

      # This process does what a sidecar does once. A first process that lives hands over by itself.
      def appoint(pid)
        @first = pid
        state_files = StateFiles.new(@directory)
        state_files.next_first = pid
        state_files.first = pid unless @workers.key?(state_files.first)
      end

      def retire(pid)
        Process.kill(RollingRestart::RETIRE, pid)
        appoint((@workers.keys - [pid]).last) if pid == @first
      end

      # Uses the spare address: there is one more of them than Puma workers.
      def start_another(reason)
        index = (0..@settings.processes).find { |number| @workers.values.none? { |taken, _| taken == number } }
        @restarts[index][reason] += 1
        start_worker(index)
      end

      def supervise
        until @stopping && @workers.empty?
          case @signals.next(pause)
          when "TERM", "INT" then stop
          when "CHLD" then reap
          when "HUP" then @rolling_restart.request(@workers.keys)
          when nil then @stopping ? insist : look
          when "TTIN" then signal("TTIN")
          when "TSTP" then signal("TSTP")
          end
        end
        exit(0)
      end

      def pause
        return [seconds_left, CHECK_SECONDS].min if @stopping
        @announced ? [@manager.pause, CHECK_SECONDS].compact.min : START_SECONDS
      end

      def look
        report
        roll
      end

      # A Puma worker that hangs does not make systemd restart the others.
      def report
        state_files = StateFiles.new(@directory)
        announce if !@announced && state_files.states.size >= @settings.processes
        @manager.alive unless @manager.hang?(state_files.silent_seconds)
      end

      def announce
        @announced = true
        @manager.ready
        ::Sidekiq.logger.info { "Sidecar ready on #{@settings.address}, #{@settings.processes} workers of #{@settings.threads} slots each" }
      end

      def stop
        return if @stopping
        @stopping = true
        @manager.stopping
        @deadline = now + @settings.timeout + MARGIN_SECONDS
        signal("TERM")
      end

      def seconds_left = [@deadline - now, 0].max

      # A Puma worker forked a moment before TERM had no handler yet, so the master repeats TERM, which is harmless.
      def insist
        seconds_left.zero? ? kill_workers : signal("TERM")
      end

      def kill_workers
        signal("KILL")
        @deadline = now + 1
      end

      def roll
        @rolling_restart.step(StateFiles.new(@directory).states.to_h { |state| [state["pid"], state] }.slice(*@workers.keys))
      end

      def signal(name)
        @workers.each_key { |pid| Process.kill(name, pid) }
      end

      # The kernel may merge several CHLD into one.
      def reap
        while (pid = Process.wait(-1, Process::WNOHANG))
          index, started_at = @workers.delete(pid)
          next unless index
          StateFiles.new(@directory).withdraw(index)
          succeed(pid) unless @stopping
          replace(pid, index, started_at, $?) unless @stopping
          @rolling_restart.ended(pid)
        end
      rescue Errno::ECHILD
        nil
      end

      # The process that ended may be the first one, or its heir. Without another one, the next that starts is the first.
      def succeed(pid)
        return unless pid == @first
        @first = nil
        staying, leaving = @workers.keys.partition { |other| !@rolling_restart.leaving?(other) }
        heir = staying.last || leaving.last
        appoint(heir) if heir
      end

      def replace(pid, index, started_at, status)
        return if @rolling_restart.leaving?(pid)
        return keep_old(index) if @rolling_restart.coming?(pid)
        return give_up(index) if status.exitstatus == ClusterWorker::NO_START
        @restarts[index]["died"] += 1
        ::Sidekiq.logger.error { "Sidecar worker #{index} died (#{status}): starting a new one" }
        sleep([MIN_AGE_SECONDS - (now - started_at), 0].max)
        start_worker(index)
      end

      # An invalid certificate or secret must not end a sidecar that works with the old one.
      def keep_old(index)
        ::Sidekiq.logger.error { "Sidecar worker #{index} could not start: see the error above. The old worker goes on" }
      end

      def give_up(index)
        @failed = true
        ::Sidekiq.logger.error { "Sidecar worker #{index} could not start: see the error above. The sidecar stops" }
        stop
      end

      def tidy_up
        [@shared, @probes].compact.each(&:close)
        (0..@settings.processes).each { |index| Listener.remove(@settings.address.private(index, @directory.to_s)) }
        FileUtils.remove_entry(@directory) if @directory
        exit!(ClusterWorker::NO_START) if @failed
      end

      def now = Process.clock_gettime(Process::CLOCK_MONOTONIC)
    end
  end
end
