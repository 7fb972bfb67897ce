# frozen_string_literal: true

require "fileutils"
require "json"

module SidekiqBridge
  module Sidecar
    # Where the processes of a sidecar show each other their state: one small file each in a private directory.
    class Board
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

      private

      # A worker may leave between the listing and the reading.
      def read(name)
        JSON.parse(File.read(File.join(@directory, name)))
      rescue Errno::ENOENT
        nil
      end
    end
  end
end
