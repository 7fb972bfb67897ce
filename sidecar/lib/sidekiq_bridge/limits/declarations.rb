# frozen_string_literal: true

require "json"
require "yaml"
require "sidekiq_bridge/limits/limit"

module SidekiqBridge
  module Limits
    # The limits that a process declares. Each mistake is an ArgumentError with one sentence.
    class Declarations
      SETTING = "BRIDGE_LIMITS"
      FILE = "BRIDGE_CONFIG"

      # BRIDGE_LIMITS holds JSON, or else the file of BRIDGE_CONFIG has a list under `limits`.
      def self.from(environment)
        text = environment[SETTING].to_s
        return new(JSON.parse(text)) unless text.strip.empty?
        new(in_file(environment[FILE].to_s))
      rescue JSON::ParserError
        raise ArgumentError, "#{SETTING} is not JSON; write for example [#{Limit::EXAMPLE}]"
      end

      # A mapping under `limits` belongs to sidekiq-limit_fetch.
      def self.in_file(path)
        return [] if path.empty? || !File.file?(path)
        document = YAML.safe_load(File.read(path), permitted_classes: [Symbol], aliases: true)
        found = document.is_a?(Hash) ? document["limits"] || document[:limits] : nil
        found.is_a?(Array) ? found : []
      end

      attr_reader :limits

      def initialize(value)
        value = [value] if value.is_a?(Hash)
        raise ArgumentError, "limits are a list; write for example [#{Limit::EXAMPLE}]" unless value.is_a?(Array)
        @limits = value.map.with_index(1) { |entry, number| numbered(entry, number) }.freeze
        refuse_twins
      end

      # As other processes read it.
      def to_json(*) = JSON.generate(@limits.map(&:to_h))

      private

      def numbered(entry, number)
        Limit.declared(entry)
      rescue ArgumentError => e
        raise ArgumentError, "limit #{number}: #{e.message}"
      end

      def refuse_twins
        @limits.each_with_index.group_by { |limit, _| limit.name }.each do |name, found|
          next if found.size == 1
          first, second = found.map { |_, index| index + 1 }
          raise ArgumentError, "limits #{first} and #{second} are both called #{name.inspect}; join them, or give one a name"
        end
      end
    end
  end
end
