# frozen_string_literal: true

require "fileutils"
require "json"

module SidekiqBridge
  module Sidecar
    # Where the processes of a sidecar show each other their state: one small file each in a private directory. A file
    # carries its time on the clock that all processes of a machine share and that is never set: by the wall clock, a
    # step of 15 s made all siblings look dead at once, and one that hung look alive after the clock went back.
    class StateFiles
      # A sibling that shows no sign of life for so long takes no jobs either.
      STALE_SECONDS = 15

      attr_reader :directory

      def initialize(directory, now: -> { Process.clock_gettime(Process::CLOCK_MONOTONIC) })
        @directory = directory
        @now = now
      end

      def publish(index, state)
        path = File.join(@directory, index.to_s)
        File.write("#{path}.new", JSON.generate("at" => @now.call, "state" => state))
        File.rename("#{path}.new", path)
      end

      def withdraw(index)
        FileUtils.rm_f(File.join(@directory, index.to_s))
      end

      def states
        published.filter_map { |found| found["state"] if @now.call - found["at"] < STALE_SECONDS }
      end

      # The private socket of the Puma worker with this boot id, nil once that one has ended. A worker that hangs keeps its
      # socket: a client that asks for it must wait, and must not take it for dead.
      def socket_of(boot)
        return unless boot
        found = published.find { |one| one["state"]["boot"] == boot }
        found && found["state"]["socket"]
      end

      # Since the last process published; infinity where none has.
      def silent_seconds
        newest = published.map { |found| found["at"] }.max
        newest ? @now.call - newest : Float::INFINITY
      end

      private

      def published = Dir.children(@directory).grep(/\A\d+\z/).sort_by(&:to_i).filter_map { |name| read(name) }

      def read(name)
        JSON.parse(File.read(File.join(@directory, name)))
      rescue Errno::ENOENT
        nil
      end
    end
  end
end
