# frozen_string_literal: true

require "puma"
require "puma/server"
require "sidekiq_bridge/sidecar/http/puma_body_limit"
require "sidekiq_bridge/sidecar/http/puma_chunk_floor"
require "sidekiq_bridge/sidecar/http/puma_client"
require "sidekiq_bridge/sidecar/http/puma_log"
require "sidekiq_bridge/sidecar/http/puma_request_limit"

module SidekiqBridge
  module Sidecar
    # A Puma server for a Rack app on sockets that are already open; the same for Puma 5 to 8.
    class PumaServer
      # Threads beyond one for each slot's client: they answer probes and commands while all the others wait.
      EXTRA_THREADS = 8
      STOP_SECONDS = 5
      # Seconds that a client may take to send a whole request. Puma holds no thread for it until then.
      REQUEST_SECONDS = 30
      # A worker drops a connection that was idle for 10 s, and each connection counts against the limit.
      IDLE_SECONDS = 15
      # Puma cuts off at a multiple of the limit, so that a slightly larger body gets a proper 413.
      PUMA_LIMIT_FACTOR = 2
      MALFORMED_BODY = '{"code":"protocol","message":"the request cannot be read: see docs/protocol.md"}'
      ERROR_BODY = '{"code":"internal","message":"the request could not be answered: see the sidecar\'s log"}'

      # `budget` is the process's ClientBudget, `share` the part of it that clients of these listeners may use.
      def initialize(app, listeners:, slots:, max_body:, budget:, share:)
        PumaClient.install
        PumaBodyLimit.install(max_body * PUMA_LIMIT_FACTOR)
        PumaChunkFloor.install
        PumaRequestLimit.install(REQUEST_SECONDS)
        @server = build(app, options(slots, max_body))
        listeners.each { |listener| listener.attach(@server, log) }
        @server.binder.ios.each { |socket| budget.guard(socket, share) }
      end

      def start
        @server.run
      end

      # Answers the requests in progress, then ends.
      def stop
        @server.stop(true)
      end

      # Closes this process's copies of the listening sockets, without an end for their owner.
      def abandon
        @server.binder.ios.each do |socket|
          socket.to_io.close
        rescue IOError, SystemCallError
          nil # the listener has closed it
        end
      end

      private

      # Puma 5 takes the log as its second argument, later versions as an option.
      def build(app, options)
        return ::Puma::Server.new(app, log, options) unless defined?(::Puma::LogWriter)
        ::Puma::Server.new(app, nil, options.merge(log_writer: log))
      end

      def log
        writer = defined?(::Puma::LogWriter) ? ::Puma::LogWriter : ::Puma::Events
        @log ||= writer.new(::Puma::NullIO.new, PumaLog.new)
      end

      # Twice the slots: a client that lost its connection asks again while the old request still waits.
      def options(slots, max_body)
        {
          min_threads: slots + EXTRA_THREADS, max_threads: (2 * slots) + EXTRA_THREADS, environment: "production",
          persistent_timeout: IDLE_SECONDS, first_data_timeout: REQUEST_SECONDS, force_shutdown_after: STOP_SECONDS,
          # Tells a job whose connection is in the backlog that the sidecar drains. A worker that only sees the
          # connection end must assume that the job may have run.
          drain_on_shutdown: true, http_content_length_limit: max_body * PUMA_LIMIT_FACTOR,
          lowlevel_error_handler: ->(_error, _env, status = 500) { [status, {"content-type" => "application/json"}, [(status < 500 || status == 501) ? MALFORMED_BODY : ERROR_BODY]] }
        }
      end
    end
  end
end
