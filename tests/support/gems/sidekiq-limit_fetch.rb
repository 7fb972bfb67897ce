# frozen_string_literal: true

# A stub of sidekiq-limit_fetch 4 with the same hooks and keys: it prepends a module to Sidekiq's Manager, which starts its own
# bookkeeping of limits, and `Sidekiq::Queue["name"].limit` is a key in Redis. The limits are options of sidekiq.yml (:limits:).

require "sidekiq"
require "sidekiq/api"
require "sidekiq/manager"

module Sidekiq
  module LimitFetch
    VERSION = "4.4.1"

    module Manager
      def initialize(...)
        super
        LimitFetch.start
      end
    end

    def self.start = nil
  end

  Manager.prepend(LimitFetch::Manager)

  class Queue
    def self.[](name) = new(name)

    %w[limit process_limit].each do |kind|
      define_method(kind) { ::Sidekiq.redis { |redis| redis.get("limit_fetch:#{kind}:#{name}") }&.to_i }
      define_method("#{kind}=") { |value| ::Sidekiq.redis { |redis| redis.set("limit_fetch:#{kind}:#{name}", value) } }
    end
  end
end
