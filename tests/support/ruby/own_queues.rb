# frozen_string_literal: true

# An app that registers queues as it starts: in an initializer, by a capsule, and by a gem at :startup.

require_relative "jobs"
require_relative "../gems/sidekiq_alive" if ENV["SIDEKIQ_ALIVE_PORT"]

Sidekiq.configure_server do |config|
  if Sidekiq::VERSION.to_i >= 7
    config.queues = %w[by_initializer default]
    config.capsule("serial") do |capsule|
      capsule.queues = %w[by_capsule]
      capsule.concurrency = 1
    end
  else
    queues = config.respond_to?(:[]) ? config[:queues] : config.options[:queues]
    queues << "by_initializer" << "by_capsule"
  end
end
