# frozen_string_literal: true

module SidekiqBridge
  module Sidecar
    # The changes that middleware made to a job's hash, in the words of the protocol.
    module Changes
      # Fields that identify a job. Its id does not change either: the worker holds the job under that id.
      NEVER_REMOVED = %w[class args jid wrapped].freeze
      # Length of a removed field's name, as the worker accepts it.
      NAME_CHARACTERS = 1..1000

      def self.between(before, after)
        fields = after.reject { |key, value| key == "jid" || (before.key?(key) && before[key].eql?(value)) }
        {"fields" => fields, "removed" => (before.keys - after.keys - NEVER_REMOVED).select { |key| NAME_CHARACTERS.cover?(key.size) }}
      end
    end
  end
end
