# frozen_string_literal: true

require "optparse"
require "sidekiq_bridge/sidecar/settings"
require "sidekiq_bridge/sidecar/version"

module SidekiqBridge
  module Sidecar
    # The command line of bin/sidecar: reads options, starts the sidecar, sets the exit status.
    class Cli
      OPTIONS = [
        [:app, "-r", "--require PATH", "Rails directory, or a Ruby file that loads the jobs"],
        [:bind, "-b", "--bind URI", "tcp://host:port, ssl://host:port or unix:///path (tcp://127.0.0.1:9292)"],
        [:metrics_bind, "--metrics-bind URI", "a second address, for /metrics and probes alone (none)"],
        [:workers, "-w", "--workers N", Integer, "processes (1; 0 means 1)"],
        [:threads, "-t", "--threads N", Integer, "job slots of each process (5)"],
        [:environment, "-e", "--environment NAME", "the app's environment (development)"],
        [:config, "-C", "--config FILE", "a sidekiq.yml (the app's config/sidekiq.yml, if it exists)"],
        [:timeout, "--timeout SECONDS", Integer, "time for running jobs when the sidecar stops (25)"],
        [:max_rss, "--max-rss MEGABYTES", Integer, "replace a Puma worker with more resident memory, after its jobs (off)"],
        [:max_body, "--max-body BYTES", Integer, "largest payload that the sidecar accepts (64 MiB)"],
        [:allow, "--allow CLASS,...", Array, "the only job classes that the sidecar performs (any)"],
        [:secret_file, "--secret-file FILE", "file with the shared secret, instead of BRIDGE_SIDECAR_SECRET"],
        [:tls_cert, "--tls-cert FILE", "certificate for ssl://"],
        [:tls_key, "--tls-key FILE", "its key"],
        [:tls_ca, "--tls-ca FILE", "CA of client certificates; clients must then have one"]
      ].freeze

      def self.run(argv)
        new.run(argv)
      rescue StartError => e
        $stderr.puts("sidecar: #{e.message}") # not Kernel#warn: RUBYOPT=-W0 would silence it
        exit e.exit_status
      end

      def run(argv)
        settings = Settings.from(parse(argv)).check
        require "sidekiq_bridge/sidecar/boot/app_loader"
        AppLoader.new(settings).call
        mode(settings).run
      end

      private

      def parse(argv)
        values = {}
        rest = parser(values).parse(argv)
        raise UsageError, "#{rest.first} is not an option: see --help" if rest.any?
        values
      rescue OptionParser::ParseError => e
        raise UsageError, "#{e.message}: see --help"
      end

      def parser(values)
        OptionParser.new("Usage: sidecar --require PATH [options]") do |parser|
          OPTIONS.each { |name, *definition| parser.on(*definition) { |value| values[name] = value } }
          parser.on("--version", "print the version") { puts(VERSION) || exit(0) }
          parser.on("-h", "--help", "print this") { puts(parser) || exit(0) }
        end
      end

      def mode(settings)
        require "sidekiq_bridge/sidecar/process/#{settings.cluster? ? "cluster" : "single"}"
        settings.cluster? ? Cluster.new(settings) : Single.new(settings)
      end
    end
  end
end
