# frozen_string_literal: true

require "fileutils"
require "json"

module SidekiqBridge
  module Sidecar
    # Where the processes of a sidecar show each other their state: one small file each in a private directory.
    class StateFiles
      # A sibling that shows no sign of life for so long takes no jobs either.
      STALE_SECONDS = 15

      attr_reader :directory

      def initialize(directory)
        @directory = directory
      end

      def publish(index, state)
        path = File.join(@directory, index.to_s)
        File.write("#{path}.new", JSON.generate(state))
        File.rename("#{path}.new", path)
      end

      def withdraw(index)
        FileUtils.rm_f(File.join(@directory, index.to_s))
      end

      def states
        numbers.filter_map { |name| read(name) }
      end

      # The private socket of the Puma worker with this boot id, nil once that one has ended. A worker that hangs keeps its
      # socket: a client that asks for it must wait, and must not take it for dead.
      def socket_of(boot)
        return unless boot
        state = numbers.filter_map { |name| parse(name) }.find { |found| found["boot"] == boot }
        state && state["socket"]
      end

      # Since the last process published; for ever where none has.
      def silent_seconds
        newest = Dir.children(@directory).filter_map { |name| published_at(name) }.max
        newest ? Time.now - newest : Float::INFINITY
      end

      private

      def numbers = Dir.children(@directory).grep(/\A\d+\z/).sort_by(&:to_i)

      def published_at(name)
        File.mtime(File.join(@directory, name))
      rescue Errno::ENOENT
        nil
      end

      def read(name)
        published = published_at(name)
        parse(name) if published && Time.now - published < STALE_SECONDS
      end

      # A worker may leave between the listing and the reading.
      def parse(name)
        JSON.parse(File.read(File.join(@directory, name)))
      rescue Errno::ENOENT
        nil
      end
    end
  end
end
