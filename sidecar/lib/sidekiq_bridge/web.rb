# frozen_string_literal: true

require "sidekiq/web"
require "sidekiq_bridge/web/helpers"
require "sidekiq_bridge/web/routes"

module SidekiqBridge
  # The tab in Sidekiq's Web UI (6.4 to 8.1): tracked jobs, batches, limits, moves, and the languages of the workers. It reads; only
  # the buttons of moves change something. It needs no JavaScript and no style of its own.
  module Web
    NAME = "Bridge"
    INDEX = "bridge"

    # Adds the tab, once.
    def self.install
      return if @installed
      @installed = true
      if ::Sidekiq::Web.respond_to?(:configure)
        ::Sidekiq::Web.configure { |config| config.register_extension(self, name: INDEX, tab: NAME, index: INDEX) }
      else
        ::Sidekiq::Web.register(self)
        ::Sidekiq::Web.tabs[NAME] = INDEX
      end
    end

    # Called by Sidekiq's Web UI.
    def self.registered(app)
      app.helpers(Helpers)
      Routes.add_to(app)
    end
  end
end
