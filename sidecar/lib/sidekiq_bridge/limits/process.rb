# frozen_string_literal: true

require "sidekiq"
require "sidekiq_bridge/limits/gates"
require "sidekiq_bridge/limits/next_starts"
require "sidekiq_bridge/scripts"
require "sidekiq_bridge/stock"

module SidekiqBridge
  module Limits
    # The places of one job at its gates.
    Places = Struct.new(:gates, :holder, :job_id, :queue)

    # Holds the places of this process of Sidekiq. It has no lease as a worker of the bridge has, so its places have an end, and a
    # thread renews them. The places of a process that is killed come free within PLACE_SECONDS.
    class Process
      PLACE_SECONDS = 15
      ROUND_SECONDS = 4
      # While jobs wait, it moves the lines that no end of a job moves: the next start of a rate, a place whose time is over.
      # It knows the next start of a rate that it has used last, and looks at all other lines now and then.
      LINE_SECONDS = 0.5
      LONGEST_TIMER_SECONDS = 5
      LINES_AT_ONCE = 50
      SCHEDULE = "schedule"
      WAITING = "bridge:waiting"
      SHARED = [SCHEDULE, WAITING, "bridge:claiming", "bridge:lines"].freeze
      DECLARED = "bridge:limits"

      @lock = Mutex.new

      # The one of this process; a fork makes its own.
      def self.current
        return @current if @current&.pid == ::Process.pid
        @lock.synchronize { @current = new unless @current&.pid == ::Process.pid }
        @current
      end

      attr_reader :pid

      def initialize
        @pid = ::Process.pid
        @identity = Stock.identity
        @held, @number, @lines_wait, @starts = {}, 0, false, NextStarts.new
        @lock = Mutex.new
        @wake = ConditionVariable.new
      end

      # Sidekiq has started: tell the others what this process declares, and renew its places from now on.
      def start
        @lock.synchronize { @thread = Thread.new { run } unless @thread&.alive? }
      end

      # Sidekiq ends.
      def leave
        @leaving = true
        @lock.synchronize { @wake.signal }
        ::Sidekiq.redis { |connection| connection.call("HDEL", DECLARED, @identity) }
      rescue => e
        ::Sidekiq.logger.warn("cannot leave the limits: #{e.message}")
      end

      # Takes a place at each gate. Returns nil for a job that now waits in `schedule`.
      def take(gates, job, queue)
        start
        payload = ::Sidekiq.dump_json(job)
        places = Places.new(gates, "#{@identity}/#{number}", Gates.job_id(job, payload), queue)
        # Noted before the call: a place whose answer is lost is renewed, and freed below.
        @lock.synchronize { @held[places] = true }
        answer = call("limit_take", ["bridge:inflight:", *gates.flat_map(&:keys), *Limits.gates.queues(gates, queue)],
          ["", places.holder, time_text(PLACE_SECONDS), places.job_id, queue, payload, "", "", *gates.flat_map { |gate| [*gate.args, kept(gate, gates)] }])
        follow(gates, *answer[1, 2])
        answer[0] == 1 ? places : wait_for(places)
      rescue
        free(places) if places
        raise
      end

      # Frees the places, and lets the next jobs go. Never raises: a place that cannot be freed ends by itself.
      def free(places)
        @lock.synchronize { @held.delete(places) }
        places.gates.each do |gate|
          next unless gate.limit.concurrency
          call("limit_free", [*gate.keys, *Limits.gates.queues([gate], places.queue)], [places.holder, places.job_id, places.queue, "0", *gate.args])
        end
      rescue => e
        ::Sidekiq.logger.warn("cannot free the places of jid=#{places.job_id}, they come free in #{PLACE_SECONDS} s: #{e.message}")
      end

      private

      def call(script, keys, arguments) = Scripts.call(script, [*SHARED, *keys], arguments)

      # One digit for each gate: how a job that waits there keeps its place here.
      def kept(gate, gates) = gates.map { |other| gate.limit.keeps_place(other.limit) }.join

      def number = @lock.synchronize { @number += 1 }

      def now = ::Process.clock_gettime(::Process::CLOCK_MONOTONIC)

      # Redis TIME in s by its last answer, `ahead` seconds from now.
      def time_text(ahead = 0)
        @clock ||= ::Sidekiq.redis { |connection| [connection.call("TIME").then { |seconds, micros| seconds.to_i + micros.to_i / 1e6 }, now] }
        told, at = @clock
        format("%.6f", told + now - at + ahead)
      end

      # `look`: Redis TIME of the next start of a rate, or of another look at a line; empty where no job waits.
      def follow(gates, told, look)
        @clock = [told.to_f, now]
        return if look.to_s.empty? || look.to_f - told.to_f > LONGEST_TIMER_SECONDS
        @lock.synchronize { @wake.signal } if @starts.set(gates, look.to_f)
      end

      def wait_for(places)
        ::Sidekiq.logger.debug { "jid=#{places.job_id} waits for a place (#{places.gates.map(&:line).join(", ")})" }
        @lock.synchronize do
          @held.delete(places)
          @lines_wait = true
          @wake.signal
        end
        nil
      end

      def run
        renewed = nil
        until @leaving && @held.empty?
          begin
            if renewed.nil? || now - renewed >= ROUND_SECONDS
              renewed = now
              declare unless @leaving
              renew
            end
            move_lines
          rescue => e
            ::Sidekiq.logger.warn("limits: #{e.class}: #{e.message}")
          end
          @lock.synchronize { @wake.wait(@lock, pause) }
        end
      end

      def declare
        return if Limits.declared.limits.empty?
        ::Sidekiq.redis { |connection| connection.call("HSET", DECLARED, @identity, Limits.declared.to_json) }
      end

      def renew
        held = @lock.synchronize { @held.keys }.flat_map { |places| places.gates.select { |gate| gate.limit.concurrency }.map { |gate| [gate, places] } }
        return if held.empty?
        told, *gone = Scripts.call("limit_renew", held.map { |gate, _| gate.places }, [PLACE_SECONDS, *held.map { |_, places| places.holder }])
        @clock = [told.to_f, now]
        gone.each { |index| warn_of(*held[index - 1]) }
      end

      def warn_of(gate, places)
        return unless @lock.synchronize { @held[places] }
        ::Sidekiq.logger.warn("jid=#{places.job_id} runs without its place of limit #{gate.line}: this process stood still for longer than #{PLACE_SECONDS} s")
      end

      def pause
        told, at = @clock
        next_start = @starts.first
        pauses = [@lines_wait ? LINE_SECONDS : ROUND_SECONDS, next_start && next_start - (told + now - at)]
        [pauses.compact.min, 0.001].max
      end

      def move(gate)
        follow([gate], *call("limit_advance", [*gate.keys, *Limits.gates.queues([gate])], gate.args)[0, 2])
      end

      def move_rates
        @starts.due(time_text.to_f).each { |gate| move(gate) } if @starts.first
      end

      # A worker of the bridge does this too; the first one moves a line, and notes when the next look is due.
      def move_lines
        move_rates
        return if @looked_at && now - @looked_at < LINE_SECONDS
        @looked_at = now
        due, @lines_wait = ::Sidekiq.redis do |connection|
          [connection.call("ZRANGEBYSCORE", WAITING, "-inf", time_text, "LIMIT", 0, LINES_AT_ONCE), connection.call("EXISTS", WAITING) == 1]
        end
        due.filter_map { |line| Limits.gates.at(line) }.each { |gate| move(gate) }
      end
    end
  end
end
