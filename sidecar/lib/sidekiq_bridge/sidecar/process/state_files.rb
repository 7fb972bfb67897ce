# frozen_string_literal: true

require "fileutils"
require "json"

module SidekiqBridge
  module Sidecar
    # The processes of a sidecar publish their state here: one small file each in a private directory. A file carries
    # the time of the monotonic clock, which all processes of a machine share. With the wall clock, a step of 15 s made
    # all siblings look dead. A step back made a hung one look alive.
    class StateFiles
      # A sibling whose state is older than this takes no jobs.
      STALE_SECONDS = 15

      attr_reader :directory

      def initialize(directory, now: -> { Process.clock_gettime(Process::CLOCK_MONOTONIC) })
        @directory = directory
        @now = now
      end

      def publish(index, state)
        write(index.to_s, {"at" => @now.call, "state" => state})
      end

      def withdraw(index)
        FileUtils.rm_f(File.join(@directory, index.to_s))
      end

      def states
        published.filter_map { |found| found["state"] if @now.call - found["at"] < STALE_SECONDS }
      end

      # Returns the private socket of the Puma worker with this boot id, or nil once it has ended. A Puma worker that
      # hangs keeps its socket: its clients must wait, not think that it is dead.
      def socket_of(boot)
        return unless boot
        found = published.find { |one| one["state"]["boot"] == boot }
        found && found["state"]["socket"]
      end

      # Seconds since a process last published; infinity before the first.
      def silent_seconds
        newest = published.map { |found| found["at"] }.max
        newest ? @now.call - newest : Float::INFINITY
      end

      # The pid of the process that does what a sidecar does once: periodic jobs, :beat. Nil before the first start.
      def first = read("first")

      def first=(pid)
        write("first", pid)
      end

      # The pid of the process that takes over from the first one, which hands over by itself.
      def next_first = read("next_first")

      def next_first=(pid)
        write("next_first", pid)
      end

      private

      def published = Dir.children(@directory).grep(/\A\d+\z/).sort_by(&:to_i).filter_map { |name| read(name) }

      def write(name, value)
        path = File.join(@directory, name)
        File.write("#{path}.new", JSON.generate(value))
        File.rename("#{path}.new", path)
      end

      def read(name)
        JSON.parse(File.read(File.join(@directory, name)))
      rescue Errno::ENOENT
        nil
      end
    end
  end
end
