# frozen_string_literal: true

require "sidekiq_bridge/sidecar/sidekiq/class_guard"

module SidekiqBridge
  module Sidecar
    # ActiveJob finds the serializer and the model of an argument by names in the payload. It calls `deserialize` or
    # `find` on any constant of such a name. This guard accepts only names that ActiveJob itself writes: a registered
    # serializer, or a model that GlobalID identifies. CurrentAttributes of Sidekiq 8 pass here as well.
    module ArgumentGuard
      def self.install
        return unless defined?(::ActiveJob)
        require "active_job/arguments"
        ::ActiveJob::Serializers.singleton_class.prepend(Serializers)
        ::ActiveJob::Arguments.singleton_class.prepend(Models)
      end

      # Wraps ActiveJob::Serializers.
      module Serializers
        def deserialize(argument)
          name = argument["_aj_serialized"]
          known = serializers.any? { |serializer| ClassGuard::NAME.bind_call(serializer.is_a?(Module) ? serializer : serializer.class) == name }
          raise ArgumentError, "Serializer #{name.inspect} is not known" unless known
          super
        end
      end

      # Wraps ActiveJob::Arguments.
      module Models
        private

        def deserialize_global_id(hash)
          gid = ::GlobalID.parse(hash["_aj_globalid"])
          raise ArgumentError, "#{gid.model_name} is not a model that GlobalID finds" if gid && !Models.model?(gid)
          super
        end

        # An app that registers a locator finds its models itself. The locator reports a missing class.
        def self.model?(gid)
          locator = ::GlobalID::Locator.send(:locator_for, gid)
          return true unless locator.class.name.to_s.start_with?("GlobalID::Locator::")
          return false unless Job::CONSTANT_PATH.match?(gid.model_name)
          found = gid.model_name.safe_constantize
          found.nil? || (found.is_a?(Class) && found.include?(::GlobalID::Identification) && ClassGuard.detour(gid.model_name, found).nil?)
        end
      end
    end
  end
end
