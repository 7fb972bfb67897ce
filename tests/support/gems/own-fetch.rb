# frozen_string_literal: true

# An app's own fetcher, as Sidekiq's documentation has it: `fetch_class` from 7 on, an object in `fetch` before.

require "sidekiq"
require "sidekiq/fetch"

class OwnFetch < Sidekiq::BasicFetch; end

Sidekiq.configure_server do |config|
  if config.respond_to?(:capsule)
    config[:fetch_class] = OwnFetch
  else
    Sidekiq.options[:fetch] = OwnFetch.new(Sidekiq.options.merge(queues: ["default"]))
  end
end
