# frozen_string_literal: true

require "erb"
require "yaml"
require "sidekiq_bridge/sidecar/errors"
require "sidekiq_bridge/sidecar/logs/log_text"

module SidekiqBridge
  module Sidecar
    # The keys of config/sidekiq.yml that say how to treat jobs (max_retries, dead_max_jobs, an app's own keys). The
    # worker, not the sidecar, decides on processes and queues.
    class SidekiqYaml
      NOT_OURS = %i[concurrency queues capsules require timeout pidfile logfile daemon strict verbose labels tag environment].freeze

      # Options of Sidekiq that are not among its defaults, and those of well-known gems.
      OF_SIDEKIQ = %i[max_retries config_file daemon fetch fetch_class fetch_setup identity index job_logger redis scheduled_enq
        skip_default_job_logging tag verbose].freeze
      OF_GEMS = %i[scheduler schedule dynamic dynamic_every enabled listened_queues_only rufus_scheduler_options cron cron_poll_interval
        cron_schedule_file limits process_limits blocking failures_max_count failures_default_mode].freeze

      class << self
        # Keys of the file that neither Sidekiq nor a well-known gem reads. The app itself may read them.
        attr_accessor :unknown
      end
      self.unknown = []

      def initialize(settings)
        @settings = settings
      end

      # `known` are Sidekiq's own options.
      def apply(options, known: [])
        found = job_options
        found.each { |name, value| options[name] = value }
        complain(found, known | NOT_OURS | OF_SIDEKIQ | OF_GEMS)
      end

      private

      def job_options
        return {} unless path
        all = parse
        all = all.merge(all.delete(@settings.environment.to_sym) || {})
        all.except(*NOT_OURS)
      end

      # A mapping under another name is the section of an environment.
      def complain(found, known)
        self.class.unknown = found.reject { |name, value| known.include?(name) || value.is_a?(Hash) }.keys.map(&:to_s)
        self.class.unknown.each do |name|
          likely = DidYouMean::SpellChecker.new(dictionary: known).correct(name).first if defined?(DidYouMean)
          ::Sidekiq.logger.warn { "#{path}: Sidekiq has no option #{LogText.word(name)}#{", write #{likely}" if likely}; it has an effect only if your app reads it" }
        end
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
