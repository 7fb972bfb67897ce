# frozen_string_literal: true

require "securerandom"
require "sidekiq_bridge/results/encoded"
require "sidekiq_bridge/results/following"
require "sidekiq_bridge/results/middleware"
require "sidekiq_bridge/results/store"

module SidekiqBridge
  module Results
    # Jobs of either language, one after the other. Each gets the result of the one before as its first argument.
    #
    #   chain = SidekiqBridge::Chain.new.on_error(AlertJob)
    #   chain.add(FetchJob, url).add("tasks.count").add(StoreJob, "words", queue: "low")
    #   SidekiqBridge::Result.get(chain.push, timeout: 30)
    #
    # A Python task is named by a String. Options of a step: `immutable: true` (it gets its own arguments only),
    # `in:` (seconds), and Sidekiq's own (`queue`, `retry`, `tags`). Later steps do not pass client middleware.
    class Chain
      OWN = %i[immutable in].freeze

      attr_reader :jids

      def initialize
        @steps = []
        @errors = []
        @jids = []
      end

      # Adds a step. Returns the chain.
      def add(job_class, *args, **options)
        @steps << step(job_class, args, options, tracked: true)
        @jids << @steps.last["jid"]
        self
      end

      # Adds a job that is pushed beside the next step, when the last added step is done.
      def link(job_class, *args, **options) = follow("link", step(job_class, args, options))

      # Adds a job that is pushed when the last added step dies: it gets the jid of that step first.
      def link_error(job_class, *args, **options) = follow("error", step(job_class, args, options))

      # The same for every step.
      def on_error(job_class, *args, **options)
        @errors << [job_class, args, options]
        self
      end

      # Pushes the first step. Returns the jid of the last one. `jids` has all of them.
      def push
        raise ArgumentError, "an empty chain: add a step" if @steps.empty?
        steps = @steps.map { |each| with_errors(each) }
        followers(steps.drop(1)).each { |each| note(each) }
        ::Sidekiq::Client.push(item(steps))
        @jids.last
      end

      private

      def item(steps)
        first, *rest = steps
        following = (first["next"] || {}).merge(rest.empty? ? {} : {"chain" => rest})
        later = first["countdown"] ? {"at" => Store.now + first["countdown"]} : {}
        following = following.empty? ? {} : {Following::FIELD => following}
        {**first["options"], **following, **later, "class" => first["class"], "args" => first["args"], "queue" => first["queue"], "jid" => first["jid"]}
      end

      def step(job_class, args, options, tracked: false)
        own = sidekiq_options(job_class).merge(options.except(*OWN).transform_keys(&:to_s))
        own[FIELD] = true if tracked
        checked = Encoded.of([args, own])
        raise ArgumentError, "#{job_class}: JSON cannot hold the arguments or options: #{checked.lost}" if checked.lost
        queue = own.delete("queue") || "default"
        made = {"class" => job_class.to_s, "args" => args, "queue" => queue, "jid" => SecureRandom.hex(12), "options" => own, "immutable" => options[:immutable] || false}
        options[:in] ? made.merge("countdown" => options[:in].to_f) : made
      end

      def sidekiq_options(job_class)
        return {} if job_class.is_a?(String)
        raise ArgumentError, "#{job_class} is not a Sidekiq job: a chain takes job classes, and the names of Python tasks" unless job_class.respond_to?(:perform_async)
        job_class.get_sidekiq_options.transform_keys(&:to_s)
      end

      def follow(name, step)
        raise ArgumentError, "add a step first" if @steps.empty?
        after = (@steps.last["next"] ||= {})
        (after[name] ||= []) << step
        self
      end

      # Each step has handlers of its own: they are jobs with jids.
      def with_errors(made)
        return made if @errors.empty?
        own = @errors.map { |job_class, args, options| step(job_class, args, options) }
        after = made["next"] || {}
        made.merge("next" => after.merge("error" => (after["error"] || []) + own))
      end

      # Those whose results a process may wait for.
      def followers(steps) = steps.select { |each| each["options"][FIELD] }

      def note(step)
        fields = GONE.merge("class" => step["class"], "queued_at" => Store.now)
        Store.mark(step["jid"], "queued", fields)
      end
    end
  end
end
