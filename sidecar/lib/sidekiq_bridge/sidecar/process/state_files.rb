# frozen_string_literal: true

require "fileutils"
require "json"

module SidekiqBridge
  module Sidecar
    # Where the processes of a sidecar show each other their state: one small file each in a private directory.
    class StateFiles
      # A sibling that shows no sign of life for so long takes no jobs either.
      STALE_SECONDS = 15

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
        Dir.children(@directory).grep(/\A\d+\z/).sort_by(&:to_i).filter_map { |name| read(name) }
      end

      # Since the last process published; for ever where none has.
      def silent_seconds
        newest = Dir.children(@directory).filter_map { |name| published_at(name) }.max
        newest ? Time.now - newest : Float::INFINITY
      end

      private

      def published_at(name)
        File.mtime(File.join(@directory, name))
      rescue Errno::ENOENT
        nil
      end

      # A worker may leave between the listing and the reading.
      def read(name)
        path = File.join(@directory, name)
        JSON.parse(File.read(path)) if Time.now - File.mtime(path) < STALE_SECONDS
      rescue Errno::ENOENT
        nil
      end
    end
  end
end
