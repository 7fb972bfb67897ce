# frozen_string_literal: true

require "json"
require "sidekiq_bridge/results/errors"
require "sidekiq_bridge/results/lookup"
require "sidekiq_bridge/results/store"
require "sidekiq_bridge/results/waiting"

module SidekiqBridge
  module Results
    # The state and the result of one tracked job, in either language. Times are epoch seconds.
    class Result
      FINISHED = %w[done dead].freeze
      REVOKED = "Bridge::Cancelled"

      class << self
        # Waits for the end of a job, and returns what it returned. `timeout` in seconds; nil waits without an end.
        # ActiveJob: `job.provider_job_id` is the jid.
        #
        # A dead job raises its own error: the same class and message. Raises ResultTimeout, NotTracked, ResultUnknown,
        # ResultLost, JobRevoked and StoreUnavailable (after about 8 s without Redis) too, which are all ResultErrors.
        def get(jid, timeout: nil)
          result = found_now(jid)
          result = wait(jid, timeout) unless result&.finished?
          raise ResultTimeout, "jid=#{jid} has not ended within #{timeout} s" unless result
          result.value!
        end

        # The result as it is now; nil if Redis has no hash of this jid.
        def find(jid)
          fields = Store.read(jid)
          new(jid, fields) if fields["status"]
        end

        private

        # Most ends are there already. A Redis that does not answer may be back in a moment: `wait` says otherwise.
        def found_now(jid)
          Outage.translated { find(jid) }
        rescue StoreUnavailable
          nil
        end

        def wait(jid, timeout)
          Waiting.until_found(Store.key(jid), timeout) do
            result = find(jid) || look_for(jid)
            result if result&.finished?
          end
        end

        # A job may have moved, or ended, while it was looked for: so it is looked for twice.
        def look_for(jid)
          2.times do
            return if Lookup.expected?(jid)
            result = find(jid)
            return result if result
          end
          raise Lookup.unknown(jid)
        end
      end

      attr_reader :jid

      def initialize(jid, fields)
        @jid = jid
        @fields = fields
      end

      # queued, running, done, retry or dead.
      def status = @fields["status"]

      def job_class = @fields["class"]

      # python or ruby; nil before the first run.
      def language = @fields["language"]

      def at = number("at")

      def total = number("total")

      def message = @fields["message"]

      # How much is done, 0 to 100; nil if the job tells no total.
      def percent = ((100.0 * (at || 0) / total).clamp(0, 100).round if total&.positive?)

      # A state of the task's own (Celery's `update_state`), and what belongs to it.
      def state = @fields["state"]

      def meta = (JSON.parse(@fields["meta"]) if @fields["meta"])

      def error_class = @fields["error_class"]

      def error_message = @fields["error_message"]

      # The reason why the result of a job that is done could not be stored.
      def lost = @fields["lost"]

      %w[queued_at started_at finished_at updated_at retry_at].each { |name| define_method(name) { number(name) } }

      def finished? = FINISHED.include?(status)

      def done? = status == "done"

      def dead? = status == "dead"

      def revoked? = dead? && error_class == REVOKED

      # The return value; nil until the job is done.
      def value = (JSON.parse(@fields["result"], max_nesting: false) if @fields["result"])

      # The same. Raises what `get` raises.
      def value!
        raise JobRevoked, "jid=#{jid}: #{error_message}" if revoked?
        raise JobFailed.of(error_class.to_s, error_message.to_s) if dead?
        raise ResultLost, "jid=#{jid}: the job is done, but its result is not stored: #{lost}" if lost
        value
      end

      private

      def number(name) = @fields[name]&.then { |text| Float(text, exception: false) }
    end
  end
end
