# frozen_string_literal: true

require "digest/sha1"
require "sidekiq"

module SidekiqBridge
  # Runs the bridge's Lua scripts over Sidekiq's own connections: redis-rb up to Sidekiq 6, redis-client from 7 on.
  # scripts/lua-for-ruby writes the files in scripts/lua; the worker's are in bridge/sidekiq/store/lua.
  module Scripts
    PLACE = File.expand_path("scripts/lua", __dir__)

    # One Lua text. Redis knows it by the SHA-1 of the text.
    class Script
      FORGOTTEN = "NOSCRIPT"

      attr_reader :sha, :text

      def initialize(text)
        @text = text.dup.freeze
        @sha = Digest::SHA1.hexdigest(text).freeze
      end

      # Runs over `connection`, or over one of Sidekiq's pool. Keys and arguments are strings or numbers.
      # Redis may forget scripts (a restart, SCRIPT FLUSH). EVAL teaches the text, also where SCRIPT LOAD is forbidden.
      def call(keys, arguments = [], connection: nil)
        return ::Sidekiq.redis { |each| call(keys, arguments, connection: each) } unless connection
        begin
          connection.call("EVALSHA", @sha, keys.size, *keys, *arguments)
        rescue => e
          raise unless e.message.start_with?(FORGOTTEN)
          connection.call("EVAL", @text, keys.size, *keys, *arguments)
        end
      end
    end

    @scripts = {}
    @step = :sidekiq_bridge_step

    # Runs all scripts that the block calls in one transaction, after the block: all of them, or none. Their calls in the block
    # return nil.
    def self.in_one_step
      Thread.current[@step] = calls = []
      yield
      Thread.current[@step] = nil
      return if calls.empty?
      ::Sidekiq.redis do |redis|
        # EVAL: a script that Redis has forgotten would be missing in the middle of the transaction.
        redis.multi { |transaction| calls.each { |text, keys, arguments| transaction.call("EVAL", text, keys.size, *keys, *arguments) } }
      end
    ensure
      Thread.current[@step] = nil
    end

    # Runs a script by the name of its file, without ".lua". Returns what the script returns.
    def self.call(name, keys, arguments = [], connection: nil)
      script = @scripts[name] ||= Script.new(File.read(File.join(PLACE, "#{name}.lua"), encoding: "UTF-8").chomp)
      step = Thread.current[@step]
      return script.call(keys, arguments, connection: connection) unless step
      step << [script.text, keys, arguments]
      nil
    end
  end
end
