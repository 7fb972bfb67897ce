# frozen_string_literal: true

require "sidekiq_bridge/sidecar/errors"
require "sidekiq_bridge/sidecar/http/bind"

module SidekiqBridge
  module Sidecar
    # Every setting of the command line and the environment; no other file of the sidecar reads ENV.
    class Settings
      MAY_BE_ZERO = %i[timeout workers].freeze
      ENVIRONMENT = %w[APP_ENV RAILS_ENV RACK_ENV].freeze

      DEFAULTS = {
        app: nil,                           # Rails directory or Ruby file
        bind: "tcp://127.0.0.1:9292",
        metrics_bind: nil,                  # probes and metrics only, unencrypted
        workers: 1,                         # processes; 0 is Puma's word for a single one
        threads: 5,                         # job slots of each
        timeout: 25,                        # seconds for running jobs when the sidecar stops
        max_body: 64 * 1024 * 1024,         # bytes
        max_rss: nil,                       # megabytes; the sidecar replaces a Puma worker above it
        allow: nil,                         # class names, nil for any
        config: nil,                        # a sidekiq.yml
        environment: nil,
        secret_file: nil,
        tls_cert: nil, tls_key: nil, tls_ca: nil,
        watchdog_usec: nil                  # systemd's: how long it waits for a heartbeat
      }.freeze

      DEFAULTS.each_key { |name| define_method(name) { @values[name] } }

      def self.from(options, env = ENV)
        new(from_env(env).merge(options.compact), env)
      end

      def self.from_env(env)
        {
          bind: env["BRIDGE_SIDECAR_BIND"], metrics_bind: env["BRIDGE_SIDECAR_METRICS_BIND"],
          workers: number(env, "BRIDGE_SIDECAR_WORKERS"), max_rss: number(env, "BRIDGE_SIDECAR_MAX_RSS_MB"),
          threads: number(env, "BRIDGE_SIDECAR_THREADS"), secret_file: env["BRIDGE_SIDECAR_SECRET_FILE"],
          environment: env.values_at(*ENVIRONMENT).compact.first, watchdog_usec: env["WATCHDOG_USEC"]&.to_i
        }.compact
      end

      def self.number(env, name)
        env[name] && Integer(env[name], 10)
      rescue ArgumentError
        raise UsageError, "#{name} is #{env[name].inspect}: write a whole number"
      end
      private_class_method :from_env, :number

      def initialize(values, env = {})
        @values = DEFAULTS.merge(values)
        @secret_text = env["BRIDGE_SIDECAR_SECRET"]
        @values[:environment] ||= "development"
      end

      def address
        @address ||= Bind.parse(bind, cert: tls_cert, key: tls_key, ca: tls_ca)
      end

      # The second address for probes and metrics; nil without one.
      def metrics_address
        @metrics_address ||= metrics_bind && Bind.parse(metrics_bind)
      end

      # One secret, or two during a rotation.
      def secrets
        @secrets ||= secret_text.split(/[\n,]/).map(&:strip).reject(&:empty?).freeze
      end

      # The operator may replace the secret file while the sidecar runs.
      def reread_secrets
        @secrets = nil
        secrets
      end

      # Only a parent process can replace a Puma worker, so a memory limit needs a cluster.
      def cluster? = workers > 1 || !max_rss.nil?

      # The number of Puma workers in a cluster.
      def processes = [workers, 1].max

      def max_rss_bytes = max_rss && (max_rss * 1_000_000)

      def watchdog_seconds = watchdog_usec && watchdog_usec / 1e6

      # Raises StartError for settings that keep the sidecar from starting.
      def check
        check_usage
        check_safety
        self
      end

      private

      def secret_text
        return @secret_text.to_s unless secret_file
        File.read(secret_file)
      rescue SystemCallError => e
        raise StartError, "cannot read the secret from #{secret_file} (#{e.class.name.split("::").last}): correct --secret-file"
      end

      def check_usage
        raise UsageError, "say what to boot: --require PATH (a Rails directory or a Ruby file)" unless app
        raise UsageError, "#{app} does not exist: correct --require" unless File.exist?(app)
        {workers: workers, threads: threads, timeout: timeout, max_body: max_body, max_rss: max_rss || 1}.each do |name, value|
          least = MAY_BE_ZERO.include?(name) ? 0 : 1
          raise UsageError, "--#{name.to_s.tr("_", "-")} must be at least #{least}" if value < least
        end
        [address, *metrics_address].each { |bind| check_directory(bind) if bind.unix? }
      end

      # Runs before the sidecar loads the app, which may take a minute.
      def check_directory(bind)
        directory = File.dirname(bind.path)
        what_to_do =
          if !File.exist?(directory) then "#{directory} does not exist, make it (mkdir -p #{directory})"
          elsif !File.directory?(directory) then "#{directory} is not a directory, correct --bind"
          elsif !File.writable?(directory) then "this user may not write in #{directory}, change its owner or correct --bind"
          elsif File.exist?(bind.path) && !File.socket?(bind.path) then "#{bind.path} exists and is not a socket, correct --bind"
          end
        raise StartError, "cannot listen on #{bind}: #{what_to_do}" if what_to_do
      end

      def check_safety
        return if address.unix?
        raise StartError, "#{secret_file} holds no secret: write one into it (openssl rand -hex 32)" if secret_file && secrets.empty?
        raise StartError, no_secret if secrets.empty?
        raise StartError, no_tls unless address.tls? || address.loopback?
      end

      def no_secret
        "a sidecar that listens on #{address} runs jobs for any client that can connect: " \
          "set BRIDGE_SIDECAR_SECRET (or --secret-file), or bind to a Unix socket"
      end

      def no_tls
        "#{address} is reachable from other machines, and jobs would travel unencrypted: " \
          "bind to ssl://... with --tls-cert and --tls-key, to a loopback address, or to a Unix socket"
      end
    end
  end
end
