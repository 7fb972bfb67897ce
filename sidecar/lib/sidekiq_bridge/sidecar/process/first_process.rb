# frozen_string_literal: true

module SidekiqBridge
  module Sidecar
    # One process of a sidecar does what must happen once. The master appoints it, in a state file. A process that leaves
    # hands over: it frees its port first, and only then the next one takes it.
    class FirstProcess
      # `lead` and `resign` are called when this process becomes the first one, and before another one does.
      def initialize(state_files, first:, lead:, resign:)
        @state_files = state_files
        @first = first
        @lead = lead
        @resign = resign
      end

      # Call it once a second.
      def look
        @first ? hand_over : take_over
      end

      private

      def take_over
        return unless @state_files.first == Process.pid
        @first = true
        @lead.call
      end

      def hand_over
        heir = @state_files.next_first
        return if heir.nil? || heir == Process.pid
        @resign.call
        @first = false
        @state_files.first = heir
      end
    end
  end
end
