# frozen_string_literal: true

module SidekiqBridge
  module Sidecar
    # The unsigned pages on an address of their own. Scrapes and probes cannot reach a Unix socket and must not reach
    # the jobs. These pages cannot start, end or show a job.
    class ProbeApp
      PATHS = %w[/health/live /health/ready /metrics].freeze
      METHODS = %w[GET HEAD].freeze
      NOT_FOUND = [404, {"content-type" => "application/json"}, [%({"code":"not_found","message":"only #{PATHS.join(", ")} are here"})]].freeze

      def initialize(app)
        @app = app
      end

      def call(env)
        return NOT_FOUND unless PATHS.include?(env["PATH_INFO"]) && METHODS.include?(env["REQUEST_METHOD"])
        @app.call(env)
      end
    end
  end
end
