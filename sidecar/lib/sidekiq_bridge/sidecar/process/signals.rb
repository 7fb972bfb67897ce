# frozen_string_literal: true

module SidekiqBridge
  module Sidecar
    # A queue of signals: Ruby allows little inside a trap, so the trap only writes the name to a pipe.
    #
    # A fork inherits traps and pipe. A signal that reaches a child before its own traps would arrive at the parent. In
    # this way TERM to a newly forked Puma worker stopped the whole sidecar. So a trap in a process without its own
    # queue keeps the name for this process's next queue. A child that the app forks has no queue: it gets the signal
    # as if the sidecar had set no trap.
    class Signals
      NAMES = %w[TERM INT TSTP TTIN].freeze
      EARLY = [] # an Array: a trap may append to it

      # `forks`: children of this process make queues of their own.
      def initialize(names = NAMES, forks: false)
        @reader, @writer = IO.pipe
        @pid = Process.pid
        @names = names
        @forks = forks
        arm
        while (name = EARLY.shift)
          arrived(name) if names.include?(name)
        end
      end

      # Sets the traps, again after code of the app that may have replaced them.
      def arm
        @names.each { |name| trap(name) { arrived(name) } }
      end

      # Takes the traps away, in a child of the app.
      def release
        @names.each { |name| trap(name, "DEFAULT") }
        [@reader, @writer].each(&:close)
      end

      # Returns the next signal's name, or nil after `seconds`.
      def next(seconds = nil)
        @reader.gets&.chomp if @reader.wait_readable(seconds)
      end

      # Logs the backtrace of every thread on TTIN, as Sidekiq does.
      def self.log_backtraces
        Thread.list.each do |thread|
          ::Sidekiq.logger.warn("#{thread.name || thread.inspect}\n#{(thread.backtrace || ["<no backtrace available>"]).join("\n")}")
        end
      end

      private

      def arrived(name)
        if Process.pid == @pid then @writer.write_nonblock("#{name}\n")
        elsif @forks then EARLY << name
        else pass_on(name)
        end
      end

      def pass_on(name)
        trap(name, "DEFAULT")
        Process.kill(name, Process.pid)
      end
    end
  end
end
