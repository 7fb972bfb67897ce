# frozen_string_literal: true

module SidekiqBridge
  module Sidecar
    # The writers that hold replies back because others will follow at once. The thread that ends the last of these jobs
    # sends them, or any thread that finds it busy with a job that takes its time.
    class HeldReplies
      def initialize
        @lock = Mutex.new
        @writers = []
      end

      def any? = !@writers.empty?

      # The writer's #send_held will be called soon.
      def add(writer)
        @lock.synchronize { @writers << writer unless @writers.include?(writer) }
      end

      def send_all
        return if @writers.empty?
        taken = @lock.synchronize { @writers.tap { @writers = [] } }
        taken.each(&:send_held)
      end
    end
  end
end
