# frozen_string_literal: true

require "sidekiq_bridge/results/chain"
require "sidekiq_bridge/results/current"
require "sidekiq_bridge/results/deleted"
require "sidekiq_bridge/results/middleware"
require "sidekiq_bridge/results/result"
require "sidekiq_bridge/results/store"
require "sidekiq_bridge/stock"

module SidekiqBridge
  # Stores how far the job on this thread has come: numbers and a text; nil leaves a value as it is. Returns true if it was
  # stored: false in a job that is not tracked, outside of a job, or if another worker has the job by now.
  def self.progress(at = nil, total = nil, message = nil)
    run = Results::Current.get
    return false unless run
    [at, total].each { |number| raise ArgumentError, "progress: #{number.inspect} is not a number" unless number.nil? || number.is_a?(Numeric) }
    run.tell({"at" => at, "total" => total, "message" => message&.to_s&.slice(0, 1000)}.compact.reject { |_, value| value == "" })
  end

  Result = Results::Result
  Chain = Results::Chain

  # Results and progress of tracked jobs. `require "sidekiq-bridge/results"` installs what a process needs.
  module Results
    # The tracked jobs that changed last, the latest first: an Array of Result.
    def self.recent(most = 50)
      Store.recent(most).filter_map { |jid| Result.find(jid) }
    end

    # Adds the middleware, once. In a sidecar the worker writes starts and ends.
    def self.install
      return if @installed
      @installed = true
      ::Sidekiq.configure_client { |config| config.client_middleware { |chain| chain.add(Client) } }
      ::Sidekiq.configure_server { |config| config.client_middleware { |chain| chain.add(Client) } }
      Stock.prepend_server_middleware(Server)
      Stock.configure { |config| config.server_middleware { |chain| chain.add(Capture) } }
      Stock.add_death_handler(Died)
      Deleted.install
    end
  end
end
