# frozen_string_literal: true

require "erb"
require "yaml"
require "sidekiq_bridge/sidecar/errors"

module SidekiqBridge
  module Sidecar
    # The keys of config/sidekiq.yml that say how to treat jobs (max_retries, dead_max_jobs, an app's own keys). The
    # worker, not the sidecar, decides on processes and queues.
    class SidekiqYaml
      NOT_OURS = %i[concurrency queues capsules require timeout pidfile logfile daemon strict verbose labels tag environment].freeze

      def initialize(settings)
        @settings = settings
      end

      def apply(options)
        job_options.each { |name, value| options[name] = value }
      end

      private

      def job_options
        return {} unless path
        all = parse
        all = all.merge(all.delete(@settings.environment.to_sym) || {})
        all.except(*NOT_OURS)
      end

      def parse
        text = ERB.new(File.read(path), trim_mode: "-").tap { |erb| erb.filename = path }.result
        YAML.safe_load(text, permitted_classes: [Symbol], aliases: true, symbolize_names: true) || {}
      rescue SystemCallError => e
        raise StartError, "cannot read #{path} (#{e.class.name.split("::").last}): correct --config"
      rescue Psych::Exception => e
        raise StartError, "#{path} is not YAML that Sidekiq could read (#{e.message.delete_prefix("(<unknown>): ")}): correct it"
      end

      def path
        return @settings.config if @settings.config
        %w[sidekiq.yml sidekiq.yml.erb].map { |name| File.join(@settings.app, "config", name) }.find { |file| File.file?(file) }
      end
    end
  end
end
