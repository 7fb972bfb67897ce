# frozen_string_literal: true

require "json"
require "sidekiq"
require "sidekiq/client"
require "sidekiq_bridge/sidecar/errors"
require "sidekiq_bridge/sidecar/logs/log_text"
require "sidekiq_bridge/sidecar/sidekiq/app_code"
require "sidekiq_bridge/sidecar/sidekiq/class_guard"
require "sidekiq_bridge/sidecar/sidekiq/job"

module SidekiqBridge
  module Sidecar
    # Pushes jobs of Python's through Sidekiq's own client: the options of the Ruby class and the app's client middleware
    # apply, as to `perform_async`. A client that lost a reply asks again under the same id, and nothing is pushed twice.
    class Pusher
      # Remembers the queue: options of the class or middleware may name another one. Refuses a job whose jid middleware has changed
      # where its batch, or a caller of its result, knows it by the old one and would wait without end.
      module PushSeen
        WAITED_FOR = %w[bridge_batch bridge_track bridge_next].freeze

        attr_reader :queue
        attr_writer :asked_jid

        private

        def raw_push(payloads)
          payload = payloads.first
          if payload["jid"] != @asked_jid && WAITED_FOR.any? { |field| payload[field] }
            raise ArgumentError, "client middleware changed the jid #{@asked_jid} to #{payload["jid"]}: " \
              "its batch or result would be waited for without end. Push it with ruby_client=False"
          end
          @queue = payload["queue"]
          super
        end
      end

      KEPT = 10_000
      KEEP_SECONDS = 900
      # Longer than the client waits for one reply.
      LONGEST_SECONDS = 60
      Answer = Struct.new(:reply, :at)

      def initialize
        @lock = Mutex.new
        @answered = ConditionVariable.new
        @answers = {} # by id, the longest ago first; without a reply while the push runs
      end

      def call(body)
        id, job, implied = read(body)
        reply_to(id) { apart { push(job, implied) } || failed(nil, "middleware killed its thread") }
      end

      private

      def read(body)
        said = JSON.parse(body)
        id, job, implied = said.values_at("id", "job", "implied")
        raise TypeError unless id.is_a?(String) && job.is_a?(String) && implied.is_a?(Array)
        [id, ::Sidekiq.load_json(job), implied]
      rescue JSON::ParserError, TypeError, NoMethodError
        raise Refusals.protocol('the body must be {"id": "...", "job": "(a payload)", "implied": ["retry", ...]}')
      end

      # Runs the block for the first request of an id; the others wait for its reply.
      def reply_to(id)
        known = @lock.synchronize do
          forget_old
          found = @answers[id]
          @answers[id] = Answer.new(nil, monotonic) unless found
          wait_for(found) if found
          found
        end
        return known.reply || raise(Refusals.internal) if known
        yield.tap { |reply| answer(id, reply) }
      end

      def wait_for(answer)
        deadline = monotonic + LONGEST_SECONDS
        @answered.wait(@lock, 1) until answer.reply || monotonic > deadline
      end

      def answer(id, reply)
        @lock.synchronize do
          @answers[id]&.reply = reply
          @answered.broadcast
        end
      end

      def forget_old
        now = monotonic
        @answers.shift while @answers.any? && (@answers.size > KEPT || now - @answers.first.last.at > KEEP_SECONDS)
      end

      # On a thread of its own: middleware may kill its thread, or leave values there. Nil if the thread was killed.
      def apart(&block) = Thread.new(&block).value

      # An error of a middleware is the caller's, whatever its class.
      def push(job, implied)
        AppCode.run { pushed(job, implied) }
      rescue Exception => e # rubocop:disable Lint/RescueException
        failed(job, "#{e.class}: #{e.message}")
      end

      def pushed(job, implied)
        klass = job_class(job["class"])
        item = job.reject { |name, _| implied.include?(name) }
        client = client_of(klass&.get_sidekiq_options || {})
        client.asked_jid = job["jid"]
        jid = client.push(item.merge("class" => klass || job["class"]))
        jid ? {"jid" => jid, "queue" => client.queue || item["queue"]} : {"halted" => true}
      end

      # As `perform_async` makes it: a class may name a client of its own (Sidekiq 7), and the Redis of its shard.
      def client_of(options)
        pool, own = options.values_at("pool", "client_class")
        return ::Sidekiq::Client.new(pool).extend(PushSeen) if ::Sidekiq::VERSION.to_i < 7
        (own || ::Sidekiq::Client).new(pool: pool).extend(PushSeen)
      end

      # The class, for its sidekiq_options; nil for a class that exists in Python alone.
      def job_class(name)
        return unless name.is_a?(String) && Job::CONSTANT_PATH.match?(name)
        klass = Object.const_get(name)
        raise ArgumentError, "#{name} is not a Sidekiq job class" unless klass.respond_to?(:get_sidekiq_options)
        klass
      rescue NameError
        nil
      end

      def failed(job, reason)
        ::Sidekiq.logger.error { "A push from Python failed: class=#{LogText.word(job && job["class"])} #{LogText.line(reason)}" }
        {"error" => LogText.valid(reason)}
      end

      def monotonic = Process.clock_gettime(Process::CLOCK_MONOTONIC)
    end
  end
end
