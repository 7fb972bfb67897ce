# frozen_string_literal: true

require "socket"
require "sidekiq"
require "sidekiq/api"

# A stub of sidekiq_alive, written from its contract: at :startup it registers a queue of this host, pushes a job that
# keeps a key alive and pushes itself again, and starts an HTTP server that answers 200 while the key is there. At :quiet it
# removes queue and job, at :shutdown it ends the server. SIDEKIQ_ALIVE_PORT and SIDEKIQ_ALIVE_TTL (seconds) configure it.
module SidekiqAlive
  class Worker
    include defined?(Sidekiq::Job) ? Sidekiq::Job : Sidekiq::Worker
    sidekiq_options retry: false

    def perform(_hostname)
      SidekiqAlive.store_alive_key
      SidekiqAlive.schedule(SidekiqAlive.ttl / 2.0)
    end
  end

  class << self
    def ttl = Integer(ENV.fetch("SIDEKIQ_ALIVE_TTL", "600"))

    def hostname = ENV.fetch("HOSTNAME", "HOSTNAME_NOT_SET")

    def current_queue = "sidekiq-alive-#{hostname}"

    def key = "SIDEKIQ::LIVENESS_PROBE_TIMESTAMP::#{hostname}"

    def redis(&block) = Sidekiq.redis(&block)

    def store_alive_key = redis { |connection| connection.call("SET", key, Time.now.to_i.to_s, "EX", ttl.to_s) }

    def alive? = redis { |connection| connection.call("EXISTS", key) } == 1

    def schedule(seconds) = Worker.set(queue: current_queue).perform_in(seconds, hostname)

    def start
      Sidekiq.configure_server do |config|
        config.on(:startup) do
          register_queue(config)
          store_alive_key
          Worker.set(queue: current_queue).perform_async(hostname)
          serve
        end
        config.on(:quiet) { Sidekiq::Queue.new(current_queue).clear }
        config.on(:shutdown) { @server&.close }
      end
    end

    private

    def register_queue(config)
      if Sidekiq::VERSION.to_i >= 7
        config.capsule("sidekiq-alive") do |capsule|
          capsule.concurrency = 2
          capsule.queues = [current_queue]
        end
      else
        (config.respond_to?(:[]) ? config[:queues] : config.options[:queues]).unshift(current_queue)
      end
    end

    def serve
      @server = TCPServer.new("127.0.0.1", Integer(ENV.fetch("SIDEKIQ_ALIVE_PORT")))
      Sidekiq.logger.info("sidekiq_alive serves")
      Thread.new do
        loop { answer(@server.accept) }
      rescue IOError, SystemCallError
        nil # closed
      end
    end

    def answer(client)
      nil until client.gets.to_s.chomp.empty?
      client.write("HTTP/1.1 #{alive? ? "200 OK" : "404 Not Found"}\r\nContent-Length: 0\r\nX-Pid: #{Process.pid}\r\n\r\n")
    ensure
      client.close
    end
  end

  start
end
