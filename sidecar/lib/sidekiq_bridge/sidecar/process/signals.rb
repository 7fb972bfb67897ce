# frozen_string_literal: true

module SidekiqBridge
  module Sidecar
    # Signals as a queue: little is allowed inside a trap, so it only writes the name to a pipe.
    #
    # A fork inherits traps and pipe. A signal that a child gets before it has set its own traps would arrive at the
    # parent: TERM to one worker just after its fork stopped the whole sidecar. So a trap that runs in another process than
    # its own keeps the name, and the queue that this process makes next begins with it.
    class Signals
      NAMES = %w[TERM INT TSTP TTIN].freeze
      EARLY = [] # an Array: a trap may append to it

      def initialize(names = NAMES)
        @reader, @writer = IO.pipe
        @pid = Process.pid
        names.each { |name| trap(name) { arrived(name) } }
        while (name = EARLY.shift)
          arrived(name) if names.include?(name)
        end
      end

      # The next signal's name, or nil after `seconds`.
      def next(seconds = nil)
        @reader.gets&.chomp if @reader.wait_readable(seconds)
      end

      # TTIN, as in Sidekiq: where is every thread?
      def self.log_backtraces
        Thread.list.each do |thread|
          ::Sidekiq.logger.warn("#{thread.name || thread.inspect}\n#{(thread.backtrace || ["<no backtrace available>"]).join("\n")}")
        end
      end

      private

      def arrived(name)
        Process.pid == @pid ? @writer.write_nonblock("#{name}\n") : EARLY << name
      end
    end
  end
end
