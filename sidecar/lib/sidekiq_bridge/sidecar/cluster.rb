# frozen_string_literal: true

require "fileutils"
require "tmpdir"
require "sidekiq_bridge/sidecar/board"
require "sidekiq_bridge/sidecar/child"
require "sidekiq_bridge/sidecar/listener"
require "sidekiq_bridge/sidecar/service_manager"
require "sidekiq_bridge/sidecar/signals"

module SidekiqBridge
  module Sidecar
    # A sidecar of several processes: the app is loaded once, here, and forked. This process serves nothing; it keeps
    # the others alive and passes signals on.
    #
    # Not Puma's own cluster: that closes its listeners on TERM, while a draining sidecar must still answer joins,
    # cancels and probes until its last job has ended; and its workers have no addresses of their own.
    class Cluster
      # Beyond the jobs' timeout, for the grace of stuck jobs and the last answers.
      MARGIN_SECONDS = 15
      # A worker that dies younger than this is not replaced at once.
      MIN_AGE_SECONDS = 2

      def initialize(settings)
        @settings = settings
        @children = {}
        @stopping = false
        @manager = ServiceManager.new(settings.watchdog_seconds)
      end

      def run
        @signals = Signals.new([*Signals::NAMES, "CHLD"])
        @shared = Listener.new(@settings.address).open
        @probes = @settings.metrics_address && Listener.new(@settings.metrics_address).open
        @directory = Dir.mktmpdir("sidekiq-bridge-")
        prepare_to_fork
        @settings.workers.times { |index| start_child(index) }
        supervise
      ensure
        tidy_up if @master_pid == Process.pid
      end

      private

      # What must not be shared by the children, and what is better shared.
      def prepare_to_fork
        @master_pid = Process.pid
        ::ActiveRecord::Base.connection_handler.clear_all_connections! if defined?(::ActiveRecord::Base)
        Process.respond_to?(:warmup) ? Process.warmup : GC.start
      end

      def start_child(index)
        pid = fork { Child.new(@settings, index, @shared, @probes, Board.new(@directory), @master_pid).run }
        @children[pid] = [index, now]
      end

      def supervise
        until @stopping && @children.empty?
          case @signals.next(@stopping ? seconds_left : @manager.pause)
          when "TERM", "INT" then stop
          when "CHLD" then reap
          when nil then @stopping ? kill_children : report
          when "TTIN" then signal("TTIN")
          when "TSTP" then signal("TSTP")
          end
        end
        exit(0)
      end

      # Alive is what can answer: one Puma worker that hangs takes no others with it.
      def report
        board = Board.new(@directory)
        @manager.ready if board.states.size == @settings.workers
        @manager.alive unless @manager.hang?(board.silent_seconds)
      end

      def stop
        return if @stopping
        @stopping = true
        @manager.stopping
        @deadline = now + @settings.timeout + MARGIN_SECONDS
        signal("TERM")
      end

      def seconds_left = [@deadline - now, 0].max

      def kill_children
        signal("KILL")
        @deadline = now + 1
      end

      def signal(name)
        @children.each_key { |pid| Process.kill(name, pid) }
      end

      # One CHLD may stand for several.
      def reap
        while (pid = Process.wait(-1, Process::WNOHANG))
          index, started_at = @children.delete(pid)
          replace(index, started_at, $?) if index && !@stopping
        end
      rescue Errno::ECHILD
        nil
      end

      def replace(index, started_at, status)
        Board.new(@directory).withdraw(index)
        return give_up(index) if status.exitstatus == Child::NO_START
        ::Sidekiq.logger.error { "Sidecar worker #{index} died (#{status}): starting another" }
        sleep([MIN_AGE_SECONDS - (now - started_at), 0].max)
        start_child(index)
      end

      def give_up(index)
        @failed = true
        ::Sidekiq.logger.error { "Sidecar worker #{index} could not start: stopping" }
        stop
      end

      def tidy_up
        [@shared, @probes].compact.each(&:close)
        @settings.workers.times { |index| Listener.remove(@settings.address.private(index)) }
        FileUtils.remove_entry(@directory) if @directory
        exit!(Child::NO_START) if @failed
      end

      def now = Process.clock_gettime(Process::CLOCK_MONOTONIC)
    end
  end
end
