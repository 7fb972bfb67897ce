# frozen_string_literal: true

require "json"
require "sidekiq_bridge/results/store"

module SidekiqBridge
  module Results
    # Pushes the jobs that follow a job, in a process of Sidekiq. The field `bridge_next` of a payload has them: lists of
    # steps, `link`, `error` and `chain`. In a worker of the bridge the settlement does this.
    module Following
      FIELD = "bridge_next"
      BATCH_FIELD = "bridge_batch"
      BATCH_TTL_SECONDS = 30 * 86_400
      ERROR_CLASS = "Bridge::ResultLost"
      MILLISECONDS_SINCE = Gem::Version.new("8.0.0.beta1")

      module_function

      # The job is done. `encoded` is what it has returned.
      def done(job, encoded)
        following = job[FIELD] or return
        steps = list(following, "link") + begun(list(following, "chain"))
        started = flat(steps)
        return broken(job, following, ERROR_CLASS, "the result of jid=#{job["jid"]} cannot be passed on: #{encoded.lost}") if encoded.lost && !started.all? { |step| step["immutable"] }
        steps.each { |step| (step["batches"] || []).each { |batch| open(batch) } }
        push(started, encoded.json && JSON.parse(encoded.json, max_nesting: false))
      end

      # The job is dead.
      def died(job, error)
        following = job[FIELD] or return
        broken(job, following, error.class.name.to_s, error.message.to_s)
      end

      def broken(job, following, error_class, message)
        push(list(following, "error").map { |step| handler(step, job, error_class, message) }, job["jid"])
        followers = followers(list(following, "link") + list(following, "chain"))
        return if followers.empty?
        Scripts.call("result_broken", followers.map { |step| Store.key(step["jid"]) }, ["", Store.now, error_class, message])
        followers.each { |step| tell_batch((step["options"] || {})[BATCH_FIELD], step["jid"]) }
      end

      # The jobs that begin: a group or chord is all of its own.
      def flat(steps) = steps.flat_map { |step| step["many"] || [step] }

      # Opens the batch of a chord: its jobs are pushed beside it.
      def open(batch)
        bid, fields = batch.values_at("bid", "fields")
        keys = ["bridge:batch:#{bid}", "bridge:batch:#{bid}:jobs", "bridge:batches", "bridge:batch-push:#{bid}", "queues", "schedule"]
        Scripts.call("batch_push", keys, [bid, 1, "open", 1, "", BATCH_TTL_SECONDS, fields.size * 2, *fields.to_a.flatten, *batch["jobs"].flat_map { |jid| [jid, "+", ""] }])
      end

      # A chord waits for the end of this chain.
      def tell_batch(bid, jid)
        Scripts.call("batch_job", ["bridge:batch:#{bid}", "bridge:batch:#{bid}:jobs"], [bid, jid, "dead"]) if bid
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

      # All jobs that will not run, those that follow them too. The body of a chord is known by its jids.
      def followers(steps)
        ends = steps.flat_map { |step| (step["batches"] || []).flat_map { |batch| batch["fields"]["chord"].to_s.split } }
        flat(steps).flat_map { |step| [step, *followers(list(step["next"] || {}, "link") + list(step["next"] || {}, "chain"))] } + ends.map { |jid| {"jid" => jid} }
      end

      def stamp = (Gem::Version.new(::Sidekiq::VERSION) >= MILLISECONDS_SINCE) ? (Store.now * 1000).to_i : Store.now
    end
  end
end
