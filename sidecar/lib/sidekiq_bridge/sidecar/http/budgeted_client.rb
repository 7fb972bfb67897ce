# frozen_string_literal: true

module SidekiqBridge
  module Sidecar
    # One connection in a ClientBudget.
    class BudgetedClient
      ATTRIBUTE = :@bridge_client

      attr_reader :share
      attr_accessor :bytes # of an incomplete request, as the budget counts them

      # The one that belongs to a connection that Puma has.
      def self.of(connection) = connection.instance_variable_get(ATTRIBUTE)

      def initialize(connection, share, budget)
        @connection = connection
        @share = share
        @budget = budget
        @bytes = 0
        @signed = false
      end

      # Returns the connection, which is known for this one's from now on.
      def attach
        @connection.instance_variable_set(ATTRIBUTE, self)
        @connection
      end

      # Whether the request that begins with these headers is signed, so that its body may be kept.
      def signed?(env)
        return false unless share.gate.call(env)
        @budget.signed(self) unless @signed
        @signed = true
      end

      def holds(bytes)
        @budget.holds(self, bytes) unless @signed || bytes == @bytes
      end

      def closed = @budget.closed(self)

      def closed? = @connection.closed?

      # From any thread: who reads it sees the end, and closes it.
      def shut_down
        @connection.to_io.shutdown(Socket::SHUT_RDWR)
        true
      rescue IOError, SystemCallError
        true # it has ended already
      end
    end
  end
end
