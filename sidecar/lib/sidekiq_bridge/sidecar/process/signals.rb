# frozen_string_literal: true

module SidekiqBridge
  module Sidecar
    # Signals as a queue: little is allowed inside a trap, so it only writes the name to a pipe.
    class Signals
      NAMES = %w[TERM INT TSTP TTIN].freeze

      def initialize(names = NAMES)
        @reader, @writer = IO.pipe
        names.each { |name| trap(name) { @writer.write_nonblock("#{name}\n") } }
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
    end
  end
end
