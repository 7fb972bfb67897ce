# frozen_string_literal: true

require "sidekiq/api"

module SidekiqBridge
  module Web
    # A process on the Busy page. `bridge`: a worker of the bridge, which runs the classes of `python` in Python and all others in a
    # sidecar. Any other process runs all classes in Ruby.
    Worker = Struct.new(:identity, :busy, :concurrency, :bridge, :python)

    # The processes that work on this Redis.
    module Workers
      LEASES = "bridge:lease"

      module_function

      def all
        holders = ::Sidekiq.redis { |redis| redis.call("ZRANGE", LEASES, 0, -1) }
        ::Sidekiq::ProcessSet.new(false).map { |process| worker(process, holders) }.sort_by(&:identity)
      end

      def worker(process, holders)
        identity = process["identity"].to_s
        python = Array(process["bridge_python"]).map(&:to_s).sort
        Worker.new(identity, process["busy"].to_i, process["concurrency"].to_i, holders.include?(identity), python)
      end
    end
  end
end
