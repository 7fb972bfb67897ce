# frozen_string_literal: true

module SidekiqBridge
  module Sidecar
    # Children that the app's code forks. A child has copies of the traps, the sockets and the stack of this process, and
    # owns none of them. Ruby calls Process._fork for each fork, from 3.1 on.
    module Forks
      # Ruby's hook.
      module Hook
        def _fork = super.tap { |pid| Forks.in_child if pid.zero? }

        # Forks without _fork, and ends the parent: it returns in the child alone.
        def daemon(*) = super.tap { Forks.in_child }
      end

      @child = @ours = false
      @cleanup = []
      @end = nil

      class << self
        # Runs the block in each child from now on.
        def on_fork(&block)
          install
          @cleanup << block
        end

        # Forks a process of the sidecar itself, which is not a child in this sense.
        def ours
          install
          @ours = true
          yield
        ensure
          @ours = false
        end

        # True in a child of the app.
        def child? = @child

        # Called where the job's code ends. In a child this is the end of the process and not of the job: `tag` is that of a
        # `catch` around the run.
        def leave(tag, error = nil)
          @end = error || SystemExit.new(0)
          throw tag
        end

        # Ends the child, on its main thread: Ruby runs at_exit handlers and sets the status.
        def finish = raise(@end || SystemExit.new(0))

        def in_child
          return @ours = false if @ours
          return if @child
          @child = true
          @cleanup.each { |block| quietly(&block) }
        end

        private

        def install
          return if @installed
          @installed = true
          Process.singleton_class.prepend(Hook) if Process.respond_to?(:_fork)
        end

        # A cleanup that fails keeps no other from its turn.
        def quietly
          yield
        rescue StandardError
          nil
        end
      end
    end
  end
end
