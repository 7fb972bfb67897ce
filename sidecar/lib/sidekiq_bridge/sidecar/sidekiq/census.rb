# frozen_string_literal: true

require "sidekiq_bridge/sidecar/sidekiq/version_adapter"

module SidekiqBridge
  module Sidecar
    # Names the gems and hooks that the app has around Sidekiq, for /health. `bridge doctor` says what becomes of each,
    # and docs/gems.md holds the table.
    module Census
      # The constant that each gem defines: RubyGems does not know Debian's packages. The first one tells sidekiq-batch from
      # Sidekiq Pro, which defines Sidekiq::Batch as well.
      GEMS = {
        "activejob-uniqueness" => "ActiveJob::Uniqueness", "apartment-sidekiq" => "Apartment::Sidekiq",
        "datadog" => "Datadog::Tracing::Contrib::Sidekiq", "gitlab-sidekiq-fetcher" => "Sidekiq::BaseReliableFetch",
        "honeybadger" => "Honeybadger", "job-iteration" => "JobIteration", "judoscale-sidekiq" => "Judoscale::Sidekiq",
        "maintenance_tasks" => "MaintenanceTasks", "newrelic_rpm" => "NewRelic::Agent",
        "opentelemetry-instrumentation-sidekiq" => "OpenTelemetry::Instrumentation::Sidekiq", "rollbar" => "Rollbar",
        "sentry-sidekiq" => "Sentry::Sidekiq", "sidekiq-batch" => "Sidekiq::Batch", "sidekiq-cron" => "Sidekiq::Cron",
        "sidekiq-ent" => "Sidekiq::Enterprise", "sidekiq-failures" => "Sidekiq::Failures",
        "sidekiq-grouping" => "Sidekiq::Grouping", "sidekiq-iteration" => "SidekiqIteration",
        "sidekiq-limit_fetch" => "Sidekiq::LimitFetch", "sidekiq-pro" => "Sidekiq::Pro",
        "sidekiq-prometheus-exporter" => "Sidekiq::Prometheus::Exporter", "sidekiq-reliable-fetch" => "Sidekiq::ReliableFetcher",
        "sidekiq-scheduler" => "SidekiqScheduler", "sidekiq-status" => "Sidekiq::Status",
        "sidekiq-throttled" => "Sidekiq::Throttled", "sidekiq-unique-jobs" => "SidekiqUniqueJobs",
        "sidekiq-worker-killer" => "Sidekiq::WorkerKiller", "sidekiq_alive" => "SidekiqAlive",
        "yabeda-sidekiq" => "Yabeda::Sidekiq"
      }.freeze
      # Parts of Sidekiq's process that the sidecar does not run, so that a change of them has no effect.
      UNUSED = %w[Sidekiq::BasicFetch Sidekiq::Manager Sidekiq::Launcher Sidekiq::Scheduled::Poller Sidekiq::Scheduled::Enq].freeze
      # A change of one of these that belongs to a gem in GEMS is that gem's, and Cron runs sidekiq-cron's poller.
      WITH_GEMS = /\A(?:Sidekiq::Cron|SidekiqBridge|Datadog|NewRelic)::/
      OWN = /\ASidekiq::(?:Middleware|Job|Metrics|Context)::|\ASidekiqBridge::/
      LONGEST_NAME = 200
      MOST_NAMES = 100

      module_function

      # Counts after the app has loaded: Sidekiq forgets a hook when it has run it. Processes that are forked later hand on
      # what was counted here.
      def take = @taken = count

      # An app may set its fetcher or add middleware at :startup, as Sidekiq makes its fetcher after that.
      def take_after_startup = @taken = count.merge(to_h.slice("hooks"))

      def to_h = @taken || take

      def count
        adapter = VersionAdapter.current
        {
          "gems" => gems, "fetch" => cut(adapter.app_fetch), "patches" => names(UNUSED.flat_map { |name| patches(find(name)) } + enqueuer(adapter)),
          "server_middleware" => names(adapter.server_middleware.grep_v(OWN)), "death_handlers" => adapter.death_handler_count,
          "hooks" => adapter.events.transform_keys(&:to_s).transform_values(&:size)
        }
      end

      # Name and version of each known gem that is loaded; the version is "" for a gem that does not tell it.
      def gems
        found = GEMS.filter_map { |name, constant| [name, version(name, find(constant))] if find(constant) }.to_h
        found.delete("sidekiq-batch") if found.key?("sidekiq-pro")
        found
      end

      def version(name, constant)
        loaded = Gem.loaded_specs[name]&.version
        loaded ||= constant.const_get(:VERSION, false) if constant.is_a?(Module) && constant.const_defined?(:VERSION, false)
        (loaded.is_a?(String) || loaded.is_a?(Gem::Version)) ? loaded.to_s[0, 50] : ""
      end

      def enqueuer(adapter) = adapter.app_enqueuer ? ["Sidekiq::Scheduled::Enq: #{adapter.app_enqueuer}"] : []

      # The modules in front of a class, and the methods of its own that another file defines.
      def patches(found)
        return [] unless found.is_a?(Class)
        prepended = found.ancestors.take_while { |each| each != found }.map(&:to_s).grep_v(WITH_GEMS)
        [*prepended.map { |name| "#{found}: #{name}" }, *replaced(found).map { |name| "#{found}##{name}" }]
      end

      # A gem may open the class and replace a method, or wrap it by alias_method.
      def replaced(found)
        home = Object.const_source_location(found.name)&.first
        names = found.instance_methods(false) + found.private_instance_methods(false)
        names.select do |name|
          method = found.instance_method(name)
          method = method.super_method while method && method.owner != found
          place = method&.source_location&.first
          home && place && place != home
        end
      end

      # Looks inside each module only: Apartment::Sidekiq must not find Sidekiq itself. Loads nothing.
      def find(name)
        name.split("::").reduce(Object) do |scope, part|
          return nil unless scope.is_a?(Module) && scope.const_defined?(part, false) && !scope.autoload?(part, false)
          scope.const_get(part, false)
        end
      end

      def names(found) = found.uniq.first(MOST_NAMES).map { |name| cut(name) }

      def cut(name) = name && name.to_s[0, LONGEST_NAME]
    end
  end
end
