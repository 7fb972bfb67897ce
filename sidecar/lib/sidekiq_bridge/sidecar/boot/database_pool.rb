# frozen_string_literal: true

module SidekiqBridge
  module Sidecar
    # The number of jobs of one process that may use the app's database at once.
    module DatabasePool
      module_function

      # Connections of ActiveRecord's main pool; nil for an app without a database.
      def size
        ::ActiveRecord::Base.connection_pool.size if defined?(::ActiveRecord::Base)
      rescue StandardError # no database is configured: then jobs need none
        nil
      end

      # Too small a pool makes jobs fail with ConnectionTimeoutError, and each failure costs an attempt.
      def warn_when_smaller_than(slots, logger)
        connections = size
        return if connections.nil? || connections >= slots
        logger.warn("The database pool has #{connections} connections for #{slots} job slots: jobs that find none fail. " \
                    "Set pool: #{slots} in config/database.yml (RAILS_MAX_THREADS=#{slots} where it says so), or lower --threads")
      end
    end
  end
end
