# frozen_string_literal: true

require "sidekiq_bridge/sidecar/version"

module SidekiqBridge
  module Sidecar
    # Writes the states of all Puma workers as Prometheus text, labelled by worker. docs/metrics.md lists the names.
    class Metrics
      GAUGES = {
        "slots" => ["bridge_sidecar_slots", "Job slots of the Puma worker."],
        "busy" => ["bridge_sidecar_busy_slots", "Job slots in use."],
        "streams" => ["bridge_sidecar_open_streams", "Streams of jobs that are open."],
        "rss_bytes" => ["bridge_sidecar_resident_memory_bytes", "Resident memory of the Puma worker."],
        "started_at" => ["bridge_sidecar_start_time_seconds", "When the Puma worker started, in epoch seconds."]
      }.freeze

      def initialize(health)
        @health = health
      end

      def to_text
        states = @health.states
        [build, ready, *GAUGES.map { |key, (name, help)| gauge(states, key, name, help) }, seconds(states), draining(states),
          by(states, "jobs", "status", "bridge_sidecar_jobs_total", "Jobs that have ended, by outcome."),
          by(states, "refusals", "code", "bridge_sidecar_requests_refused_total", "Requests that got no outcome, by the reply's code."),
          by(states, "restarts", "reason", "bridge_sidecar_worker_restarts_total", "How often the Puma worker was replaced.")].join
      end

      private

      def build
        labels = {version: VERSION, ruby: RUBY_VERSION, sidekiq: ::Sidekiq::VERSION}
        family("bridge_sidecar_build_info", "gauge", "Versions; always 1.", [[labels, 1]])
      end

      def ready
        family("bridge_sidecar_ready", "gauge", "Whether the sidecar takes jobs.", [[{}, (@health.status == "ready") ? 1 : 0]])
      end

      def gauge(states, key, name, help)
        family(name, "gauge", help, states.map { |state| [{worker: state["index"]}, state[key]] })
      end

      # Writes a count for each value of a label.
      def by(states, key, label, name, help)
        samples = states.flat_map do |state|
          state[key].map { |value, count| [{:worker => state["index"], label => value}, count] }
        end
        family(name, "counter", help, samples)
      end

      def seconds(states)
        family("bridge_sidecar_run_seconds_total", "counter", "Seconds that jobs have run.",
          states.map { |state| [{worker: state["index"]}, state["run_seconds"]] })
      end

      def draining(states)
        family("bridge_sidecar_draining", "gauge", "1 when the Puma worker takes no new jobs.",
          states.map { |state| [{worker: state["index"]}, state["draining"] ? 1 : 0] })
      end

      def family(name, type, help, samples)
        lines = samples.map { |labels, value| "#{name}#{braces(labels)} #{value}\n" }
        "# HELP #{name} #{help}\n# TYPE #{name} #{type}\n#{lines.join}"
      end

      def braces(labels)
        return "" if labels.empty?
        "{#{labels.map { |key, text| %(#{key}="#{text}") }.join(",")}}"
      end
    end
  end
end
