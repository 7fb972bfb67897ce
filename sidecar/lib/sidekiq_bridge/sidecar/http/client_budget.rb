# frozen_string_literal: true

require "sidekiq"
require "sidekiq_bridge/sidecar/http/budgeted_client"
require "sidekiq_bridge/sidecar/logs/log_quota"

module SidekiqBridge
  module Sidecar
    # What clients may hold in this process, on all of its addresses together: connections (each is a file, and the app
    # needs files too) and, before they have signed a request, bytes of memory. Clients that have signed nothing share a
    # small part of the connections, and the one that came first makes room for the next: whoever reaches an address can
    # open connections, but keeps no worker out.
    class ClientBudget
      MOST = 4096
      # Of the files that the process may open, and of the connections.
      FILES_SHARE = UNSIGNED_SHARE = 2
      UNSIGNED_MOST = 256
      UNSIGNED_BYTES = 16 * 1024 * 1024
      # ProbeApp and scrapes are few.
      METRICS_MOST = 32
      METRICS_SHARE = 8
      # Part of the connections that may be told to end before the thread that closes them has come to it.
      ENDING_SHARE = 8
      # How many make room when there are no files left, and how long nothing is accepted then.
      ROOM = 16
      PAUSE_SECONDS = 0.2
      # Looking through all signed ones at each connection would cost more with each that is open.
      FIRST_LOOK = 64
      NO_FILES = [Errno::EMFILE, Errno::ENFILE, Errno::ENOBUFS, Errno::ENOMEM].freeze

      # What the clients of one address may hold of it. `gate` says of a request's headers whether they are signed.
      Share = Struct.new(:most, :gate, :clients)

      # By the files that this process may open.
      def self.of_this_process(&on_refused)
        new(files: Process.getrlimit(:NOFILE).first, &on_refused)
      end

      # The block is called for each connection that is closed to make room, and for each that finds none.
      def initialize(files:, &on_refused)
        @most = [files / FILES_SHARE, MOST].min
        @unsigned_most = [@most / UNSIGNED_SHARE, UNSIGNED_MOST].min
        @on_refused = on_refused
        @quotas = Hash.new { |quotas, reason| quotas[reason] = LogQuota.new(1) }
        @lock = Mutex.new
        @unsigned = {}.compare_by_identity # in the order of their coming
        @ending = {}.compare_by_identity
        @ended = ConditionVariable.new
        @signed = {}.compare_by_identity
        @bytes = 0
        @look_at = FIRST_LOOK
      end

      def main_share(gate) = Share.new(@unsigned_most, gate, {}.compare_by_identity)

      def metrics_share = Share.new([@unsigned_most / METRICS_SHARE, METRICS_MOST].min.clamp(1..), ->(_env) { false }, {}.compare_by_identity)

      # Puma's listening socket goes on to accept as it did.
      def guard(socket, share)
        budget = self
        socket.define_singleton_method(:accept_nonblock) { |*args, **options| budget.accept(share) { super(*args, **options) } }
      end

      # Called by the threads that accept. For what is too much Puma hears that there was no connection after all.
      def accept(share)
        wait_for_ends
        admit(yield, share)
      rescue *NO_FILES => e
        no_files(e)
        raise IO::EAGAINWaitReadable
      end

      # It has signed a request.
      def signed(client)
        @lock.synchronize { @signed[client] = true if forget(client) }
      end

      # Its connection is closed.
      def closed(client)
        @lock.synchronize do
          forget(client) || @signed.delete(client)
          @ended.signal if @ending.delete(client)
        end
      end

      # It has sent `bytes` of a request that is not complete.
      def holds(client, bytes)
        evicted = @lock.synchronize do
          next unless @unsigned.key?(client)
          @bytes += bytes - client.bytes
          client.bytes = bytes
          end_first(@unsigned) if @bytes > UNSIGNED_BYTES
        end
        refused(:bytes, "clients that have signed nothing hold #{UNSIGNED_BYTES} bytes of requests") if evicted
      end

      # For tests and the curious.
      def counts = @lock.synchronize { {unsigned: @unsigned.size, ending: @ending.size, signed: @signed.size, bytes: @bytes} }

      private

      def admit(connection, share)
        client = BudgetedClient.new(connection, share, self)
        full, crowded = @lock.synchronize { place(client, share) }
        connection.close if full
        refused(:full, "#{@most} connections are open") if full
        refused(:crowded, "#{share.most} clients that have signed nothing are connected") if crowded
        full ? raise(IO::EAGAINWaitReadable) : client.attach
      end

      # Whether there was no room at all, and whether another one had to go.
      def place(client, share)
        forget_closed if @signed.size >= [@look_at, @most - @unsigned_most].min
        crowded = end_first(share.clients) if share.clients.size >= share.most
        crowded ||= end_first(@unsigned) if @unsigned.size >= @unsigned_most
        return [true, crowded] if @unsigned.size + @ending.size + @signed.size >= @most
        @unsigned[client] = share.clients[client] = true
        [false, crowded]
      end

      # Puma closes it, on the thread that reads it.
      def end_first(clients)
        client, = clients.first
        return unless client
        forget(client)
        @ending[client] = true
        client.shut_down
      end

      def forget(client)
        client.share.clients.delete(client)
        @bytes -= client.bytes if (known = @unsigned.delete(client))
        known
      end

      # Streams are closed without Puma. Not only when all are in use: one that is closed keeps what its TLS needed as
      # long as it is remembered.
      def forget_closed
        @signed.delete_if { |client, _| client.closed? }
        @look_at = [FIRST_LOOK, 2 * @signed.size].max
      end

      # So that the thread that closes comes to it, while the next ones wait in the socket's queue.
      def wait_for_ends
        return if @ending.size < @most / ENDING_SHARE
        @lock.synchronize { @ended.wait(@lock, PAUSE_SECONDS) if @ending.size >= @most / ENDING_SHARE }
      end

      def no_files(error)
        @lock.synchronize { [ROOM, @unsigned.size].min.times { end_first(@unsigned) } }
        refused(:files, "no connection can be accepted (#{error.class.name.split("::").last})")
        sleep(PAUSE_SECONDS)
      end

      def refused(reason, what)
        @on_refused&.call
        @lock.synchronize { @quotas[reason] }.spend do |left_out|
          more = ", as #{left_out} times since the last such line" if left_out.positive?
          ::Sidekiq.logger.error do
            "#{what}#{more}, and others are closed for it: find out who opens connections to the sidecar, or raise the " \
              "number of files a process may open (ulimit -n, LimitNOFILE)"
          end
        end
      end
    end
  end
end
