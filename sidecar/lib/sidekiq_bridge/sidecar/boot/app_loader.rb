# frozen_string_literal: true

require "sidekiq_bridge/sidecar/boot/database_pool"
require "sidekiq_bridge/sidecar/boot/quiet_hooks"
require "sidekiq_bridge/sidecar/boot/sidekiq_yaml"
require "sidekiq_bridge/sidecar/boot/unused_options"
require "sidekiq_bridge/sidecar/errors"
require "sidekiq_bridge/sidecar/logs/log_text"
require "sidekiq_bridge/sidecar/sidekiq/argument_guard"
require "sidekiq_bridge/sidecar/sidekiq/census"
require "sidekiq_bridge/sidecar/sidekiq/checkpoint_gems"
require "sidekiq_bridge/sidecar/sidekiq/throttling"

module SidekiqBridge
  module Sidecar
    # Loads the app as `sidekiq -r` would, so that the app takes this process for a Sidekiq process.
    class AppLoader
      OLDEST_SIDEKIQ = "6.4"

      def initialize(settings)
        @settings = settings
      end

      def call
        load_sidekiq
        apply_options
        @unused = UnusedOptions.new(VersionAdapter.current)
        rails? ? load_rails : load_file
        prepare_sidekiq
      end

      private

      # Runs before the app's initializers: Sidekiq.server? asks whether Sidekiq::CLI is defined, and the app configures
      # itself by the answer.
      def load_sidekiq
        require "sidekiq"
        require "sidekiq/cli"
        require "sidekiq_bridge/sidecar/sidekiq/version_adapter"
        require "sidekiq_bridge/sidecar/sidekiq/probe"
        return if VersionAdapter.since?(OLDEST_SIDEKIQ)
        raise StartError, "Sidekiq #{::Sidekiq::VERSION} is too old: update to #{OLDEST_SIDEKIQ} or later"
      rescue LoadError => e
        raise StartError, "Sidekiq cannot be loaded (#{e.message}): install it, or start the sidecar in the app's bundle"
      end

      # Runs before the app as well: Sidekiq 6 sizes its Redis pool when the app's initializer names the server.
      def apply_options
        VersionAdapter.current.concurrency = @settings.threads
        VersionAdapter.current.options[:environment] = @settings.environment
        VersionAdapter.current.configure_cli(@settings.environment)
        SidekiqYaml.new(@settings).apply(VersionAdapter.current.options, known: VersionAdapter.current.known_options)
      end

      def rails? = File.directory?(@settings.app)

      def load_rails
        environment_file = File.join(File.expand_path(@settings.app), "config", "environment.rb")
        raise StartError, "#{@settings.app} is not a Rails app: it has no config/environment.rb" unless File.exist?(environment_file)
        ENV["RACK_ENV"] = ENV["RAILS_ENV"] = @settings.environment
        require "rails"
        require "sidekiq/rails"
        require environment_file
      end

      def load_file
        ENV["RACK_ENV"] = ENV["RAILS_ENV"] = @settings.environment
        require File.expand_path(@settings.app)
      end

      # Runs after the app: the app's own middleware and its own pool size stay.
      def prepare_sidekiq
        Census.take
        @unused.say(::Sidekiq.logger)
        VersionAdapter.current.concurrency = @settings.threads
        VersionAdapter.current.replace_middleware
        VersionAdapter.current.replace_error_log
        ArgumentGuard.install
        CheckpointGems.install
        Throttling.install
        LogText.install(::Sidekiq.logger)
        QuietHooks.say(@settings.app, VersionAdapter.current.events[:quiet], ::Sidekiq.logger)
        DatabasePool.warn_when_smaller_than(@settings.threads, ::Sidekiq.logger)
      end
    end
  end
end
