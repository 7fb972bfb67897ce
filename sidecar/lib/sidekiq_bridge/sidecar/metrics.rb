# frozen_string_literal: true

module SidekiqBridge
  module Sidecar
    # The states of all Puma workers as Prometheus text, labelled by worker.
    class Metrics
      GAUGES = {
        "slots" => ["bridge_sidecar_slots", "Job slots of the Puma worker."],
        "busy" => ["bridge_sidecar_busy_slots", "Job slots in use."],
        "streams" => ["bridge_sidecar_open_streams", "Streams of jobs that are open."],
        "rss_bytes" => ["bridge_sidecar_resident_memory_bytes", "Resident memory of the Puma worker."]
      }.freeze

      def initialize(health)
        @health = health
      end

      def to_text
        states = @health.states
        [*GAUGES.map { |key, (name, help)| gauge(states, key, name, help) }, jobs(states), seconds(states), draining(states)].join
      end

      private

      def gauge(states, key, name, help)
        family(name, "gauge", help, states.map { |state| [{worker: state["index"]}, state[key]] })
      end

      def jobs(states)
        samples = states.flat_map do |state|
          state["jobs"].map { |status, count| [{worker: state["index"], status: status}, count] }
        end
        family("bridge_sidecar_jobs_total", "counter", "Jobs that have ended, by outcome.", samples)
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
        lines = samples.map { |labels, value| "#{name}{#{labels.map { |key, text| %(#{key}="#{text}") }.join(",")}} #{value}\n" }
        "# HELP #{name} #{help}\n# TYPE #{name} #{type}\n#{lines.join}"
      end
    end
  end
end
