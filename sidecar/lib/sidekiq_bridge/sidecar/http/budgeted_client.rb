# frozen_string_literal: true

module SidekiqBridge
  module Sidecar
    # One connection in a ClientBudget.
    class BudgetedClient
      ATTRIBUTE = :@bridge_client

      attr_reader :share
      attr_accessor :bytes # of an incomplete request, as the budget counts them

      # Returns the BudgetedClient of one of Puma's connections.
      def self.of(connection) = connection.instance_variable_get(ATTRIBUTE)

      def initialize(connection, share, budget)
        @connection = connection
        @share = share
        @budget = budget
        @bytes = 0
        @signed = false
      end

      # Returns the connection, and ties this object to it.
      def attach
        @connection.instance_variable_set(ATTRIBUTE, self)
        @connection
      end

      # True if the request with these headers is signed, so that Puma may keep its body.
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

      # TLS would send the client an end of the session, so this closes the descriptor alone.
      def abandon
        @connection.to_io.close
      rescue IOError, SystemCallError
        nil # it is closed
      end

      # Any thread may call it: the reading thread sees the end and closes the connection.
      def shut_down
        @connection.to_io.shutdown(Socket::SHUT_RDWR)
        true
      rescue IOError, SystemCallError
        true # it has ended already
      end
    end
  end
end
