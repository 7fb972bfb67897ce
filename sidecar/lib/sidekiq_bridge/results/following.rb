# frozen_string_literal: true

require "json"
require "sidekiq_bridge/results/store"

module SidekiqBridge
  module Results
    # Pushes the jobs that follow a job, in a process of Sidekiq. The field `bridge_next` of a payload has them: lists of
    # steps, `link`, `error` and `chain`. In a worker of the bridge the settlement does this.
    module Following
      FIELD = "bridge_next"
      ERROR_CLASS = "Bridge::ResultLost"
      MILLISECONDS_SINCE = Gem::Version.new("8.0.0.beta1")

      module_function

      # The job is done. `encoded` is what it has returned.
      def done(job, encoded)
        following = job[FIELD] or return
        steps = list(following, "link") + begun(list(following, "chain"))
        return broken(job, following, ERROR_CLASS, "the result of jid=#{job["jid"]} cannot be passed on: #{encoded.lost}") if encoded.lost && !steps.all? { |step| step["immutable"] }
        push(steps, encoded.json && JSON.parse(encoded.json, max_nesting: false))
      end

      # The job is dead.
      def died(job, error)
        following = job[FIELD] or return
        broken(job, following, error.class.name.to_s, error.message.to_s)
      end

      def broken(job, following, error_class, message)
        push(list(following, "error").map { |step| handler(step, job, error_class, message) }, job["jid"])
        keys = jids(list(following, "link") + list(following, "chain")).map { |jid| Store.key(jid) }
        Scripts.call("result_broken", keys, ["", Store.now, error_class, message]) if keys.any?
      end

      def list(following, name) = following[name] || []

      # The first step of a chain, with the rest of it.
      def begun(chain)
        first, *rest = chain
        return [] unless first
        [rest.empty? ? first : first.merge("next" => (first["next"] || {}).merge("chain" => rest))]
      end

      def push(steps, first)
        return if steps.empty?
        jobs = steps.flat_map { |step| entry(step, first) }
        Scripts.call("link_push", ["queues", "schedule", *steps.map { |step| "queue:#{step["queue"]}" }], ["", *jobs])
      end

      # Score ("" for now) and payload.
      def entry(step, first)
        at = step["at"] || (Store.now + step["countdown"] if step["countdown"])
        args = step["immutable"] ? step["args"] : [first, *step["args"]]
        fields = {"retry" => true, **(step["options"] || {}), "queue" => step["queue"], "class" => step["class"], "args" => args, "jid" => step["jid"], "created_at" => stamp}
        fields[FIELD] = step["next"] if step["next"]
        fields["enqueued_at"] = stamp unless at
        [at || "", ::Sidekiq.dump_json(fields)]
      end

      # A Python handler of Celery's form learns of the job and its error; any other one gets the jid.
      def handler(step, job, error_class, message)
        return step unless step["errback"]
        failed = {"id" => job["jid"], "task" => job["wrapped"] || job["class"], "args" => job["args"], "error_class" => error_class, "error_message" => message}
        step.merge("immutable" => true, "args" => [*step["args"], failed])
      end

      def jids(steps)
        steps.flat_map { |step| [step["jid"], *jids(list(step["next"] || {}, "link") + list(step["next"] || {}, "chain"))] }
      end

      def stamp = (Gem::Version.new(::Sidekiq::VERSION) >= MILLISECONDS_SINCE) ? (Store.now * 1000).to_i : Store.now
    end
  end
end
