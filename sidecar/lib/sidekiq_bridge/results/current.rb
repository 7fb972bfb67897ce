# frozen_string_literal: true

module SidekiqBridge
  module Results
    # The tracked job that runs on this thread. It knows its `jid`, the `run` name, and `inflight`: the key and field of its
    # worker's hash, or nil in a process of Sidekiq. `value` is what its `perform` has returned.
    module Current
      KEY = :bridge_tracked_run

      module_function

      # Of the thread, not of the fiber: a job may tell of its progress inside an Enumerator.
      def get = Thread.current.thread_variable_get(KEY)

      def with(run)
        outer = get
        Thread.current.thread_variable_set(KEY, run)
        yield
      ensure
        Thread.current.thread_variable_set(KEY, outer)
      end
    end
  end
end
