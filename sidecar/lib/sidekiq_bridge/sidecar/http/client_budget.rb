# frozen_string_literal: true

require "sidekiq"
require "sidekiq_bridge/sidecar/http/budgeted_client"
require "sidekiq_bridge/sidecar/logs/log_quota"

module SidekiqBridge
  module Sidecar
    # The limits on clients of this process, over all of its addresses. They cover connections (each is a file, and the
    # app needs files too) and the memory of unsigned requests. Unsigned clients share a small part of the connections,
    # and the oldest makes room for the next. A client without the secret can open connections, but cannot keep a worker
    # out.
    class ClientBudget
      MOST = 4096
      # Divisors: connections get half of the process's files, and unsigned clients half of the connections.
      FILES_SHARE = UNSIGNED_SHARE = 2
      UNSIGNED_MOST = 256
      UNSIGNED_BYTES = 16 * 1024 * 1024
      # Probes and scrapes are few.
      METRICS_MOST = 32
      METRICS_SHARE = 8
      # Divisor: the part of the connections that may wait for their thread to close them.
      ENDING_SHARE = 8
      # The number of connections that make room when the process has no files left, and the pause before it accepts
      # again.
      ROOM = 16
      PAUSE_SECONDS = 0.2
      # The signed clients to reach before the first search for closed ones; a search at each connection would cost too
      # much.
      FIRST_LOOK = 64
      NO_FILES = [Errno::EMFILE, Errno::ENFILE, Errno::ENOBUFS, Errno::ENOMEM].freeze

      # The limit for the clients of one address. `gate` says whether a request's headers are signed.
      Share = Struct.new(:most, :gate, :clients)

      # Derives the limits from the number of files that this process may open.
      def self.of_this_process(&on_refused)
        new(files: Process.getrlimit(:NOFILE).first, &on_refused)
      end

      # The block gets each connection closed to make room, and each one refused.
      def initialize(files:, &on_refused)
        @most = [files / FILES_SHARE, MOST].min
        @unsigned_most = [@most / UNSIGNED_SHARE, UNSIGNED_MOST].min
        @on_refused = on_refused
        @quotas = Hash.new { |quotas, reason| quotas[reason] = LogQuota.new(1) }
        @lock = Mutex.new
        @unsigned = {}.compare_by_identity # the oldest first
        @ending = {}.compare_by_identity
        @ended = ConditionVariable.new
        @signed = {}.compare_by_identity
        @bytes = 0
        @look_at = FIRST_LOOK
      end

      def main_share(gate) = Share.new(@unsigned_most, gate, {}.compare_by_identity)

      def metrics_share = Share.new([@unsigned_most / METRICS_SHARE, METRICS_MOST].min.clamp(1..), ->(_env) { false }, {}.compare_by_identity)

      # Adds the limits to #accept_nonblock of Puma's listening socket.
      def guard(socket, share)
        budget = self
        socket.define_singleton_method(:accept_nonblock) { |*args, **options| budget.accept(share) { super(*args, **options) } }
      end

      # The accepting threads call it. It tells Puma that no connection arrived when the budget has no room for one.
      def accept(share)
        wait_for_ends
        admit(yield, share)
      rescue *NO_FILES => e
        no_files(e)
        raise IO::EAGAINWaitReadable
      end

      # Notes that the client signed a request.
      def signed(client)
        @lock.synchronize { @signed[client] = true if forget(client) }
      end

      # Notes that the client's connection is closed.
      def closed(client)
        @lock.synchronize do
          forget(client) || @signed.delete(client)
          @ended.signal if @ending.delete(client)
        end
      end

      # Notes that the client has sent `bytes` of an incomplete request.
      def holds(client, bytes)
        evicted = @lock.synchronize do
          next unless @unsigned.key?(client)
          @bytes += bytes - client.bytes
          client.bytes = bytes
          end_first(@unsigned) if @bytes > UNSIGNED_BYTES
        end
        refused(:bytes, "unsigned clients hold #{UNSIGNED_BYTES} bytes of requests") if evicted
      end

      # Closes this process's copies of all connections, without a word to the clients.
      def abandon = [@unsigned, @ending, @signed].each { |clients| clients.each_key(&:abandon) }

      # Counts for tests and debugging.
      def counts = @lock.synchronize { {unsigned: @unsigned.size, ending: @ending.size, signed: @signed.size, bytes: @bytes} }

      private

      def admit(connection, share)
        client = BudgetedClient.new(connection, share, self)
        full, crowded = @lock.synchronize { place(client, share) }
        connection.close if full
        refused(:full, "#{@most} connections are open") if full
        refused(:crowded, "#{share.most} unsigned clients are connected") if crowded
        full ? raise(IO::EAGAINWaitReadable) : client.attach
      end

      # Returns two flags: every connection is in use, and another client had to leave.
      def place(client, share)
        forget_closed if @signed.size >= [@look_at, @most - @unsigned_most].min
        crowded = end_first(share.clients) if share.clients.size >= share.most
        crowded ||= end_first(@unsigned) if @unsigned.size >= @unsigned_most
        return [true, crowded] if @unsigned.size + @ending.size + @signed.size >= @most
        @unsigned[client] = share.clients[client] = true
        [false, crowded]
      end

      # Marks the oldest client as ending; Puma's reading thread closes its connection.
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

      # Streams close without Puma, so this drops them. It also runs below the limit: a closed TLS connection keeps its
      # memory until the budget forgets it.
      def forget_closed
        @signed.delete_if { |client, _| client.closed? }
        @look_at = [FIRST_LOOK, 2 * @signed.size].max
      end

      # Waits for the closing thread; the next connections wait in the socket's queue.
      def wait_for_ends
        return if @ending.size < @most / ENDING_SHARE
        @lock.synchronize { @ended.wait(@lock, PAUSE_SECONDS) if @ending.size >= @most / ENDING_SHARE }
      end

      def no_files(error)
        @lock.synchronize { [ROOM, @unsigned.size].min.times { end_first(@unsigned) } }
        refused(:files, "the sidecar cannot accept connections (#{error.class.name.split("::").last})")
        sleep(PAUSE_SECONDS)
      end

      def refused(reason, what)
        @on_refused&.call
        @lock.synchronize { @quotas[reason] }.spend do |left_out|
          more = " (and #{left_out} times since the last such line)" if left_out.positive?
          ::Sidekiq.logger.error do
            "#{what}#{more}: the sidecar closed or refused some. Find the program that opens them, or raise the number of files " \
              "that a process may open (ulimit -n, LimitNOFILE)"
          end
        end
      end
    end
  end
end
