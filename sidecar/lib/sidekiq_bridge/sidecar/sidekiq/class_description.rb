# frozen_string_literal: true

require "json"
require "sidekiq_bridge/sidecar/errors"
require "sidekiq_bridge/sidecar/sidekiq/app_code"
require "sidekiq_bridge/sidecar/sidekiq/class_guard"
require "sidekiq_bridge/sidecar/sidekiq/job"
require "sidekiq_bridge/sidecar/sidekiq/version_adapter"

module SidekiqBridge
  module Sidecar
    # Tells what a job class of the app does around its `perform`, for `bridge move --plan`. Runs none of the class's code
    # but the file that defines it.
    class ClassDescription
      LONGEST = 200
      MOST = 100
      # Modules of Ruby, Rails and Sidekiq themselves, which say nothing about a job.
      ORDINARY = /\A(?:Kernel|Comparable|PP::|JSON::|ActiveSupport|ActiveJob|GlobalID|Sidekiq::(?:Job|Worker)\b|SidekiqBridge|Object\b|DEBUGGER__|ERB|Bootsnap|MakeMakefile|FriendlyErrors)/
      HOOKS = {"sidekiq_retry_in" => :sidekiq_retry_in_block, "sidekiq_retries_exhausted" => :sidekiq_retries_exhausted_block}.freeze

      # The name in the body of a request.
      def self.name_in(body)
        name = JSON.parse(body).fetch("class")
        return name if name.is_a?(String) && name.size <= LONGEST && Job::CONSTANT_PATH.match?(name)
        raise Refusals.protocol("class must be the name of a Ruby class")
      rescue JSON::ParserError, KeyError, TypeError, NoMethodError
        raise Refusals.protocol('the body must be {"class": "ReportJob"}')
      end

      # Looks up no class that the sidecar would not run.
      def self.of(name, guard)
        guard.allows?(name) ? AppCode.run { new(name).to_h } : {"class" => name.delete_prefix("::"), "kind" => "refused"}
      end

      def initialize(name)
        @name = name.delete_prefix("::")
      end

      def to_h
        return {"class" => @name, "kind" => "unknown"} unless job?
        {
          "class" => @name, "kind" => active? ? "active_job" : "job", "options" => options, "hooks" => hooks, **rescues, "callbacks" => callbacks,
          "parameters" => parameters, "place" => place, "iterable" => iterable?, "modules" => modules, "current_attributes" => current_attributes,
          "server_middleware" => names(VersionAdapter.current.server_middleware)
        }
      end

      private

      def job? = active? || (klass.is_a?(Class) && klass.respond_to?(:get_sidekiq_options))

      def active? = !!(defined?(::ActiveJob::Base) && klass.is_a?(Class) && klass <= ::ActiveJob::Base)

      def klass
        @klass ||= begin
          found = Object.const_get(@name)
          found unless found.is_a?(Class) && ClassGuard.detour(@name, found)
        rescue NameError, LoadError
          nil
        end
      end

      # Only what JSON can hold: an option may be a pool or a class.
      def options
        found = klass.respond_to?(:get_sidekiq_options) ? klass.get_sidekiq_options : {}
        found = found.merge("queue" => klass.queue_name.to_s) if active? && !klass.queue_name.is_a?(Proc)
        found.to_h { |name, value| [name.to_s, plain?(value) ? value : cut(value.class)] }
      end

      def plain?(value)
        case value
        when Hash then value.each_value.all? { |each| plain?(each) }
        when Array then value.all? { |each| plain?(each) }
        when String then value.size <= LONGEST && value.dup.encode(Encoding::UTF_8).valid_encoding?
        when Symbol, Integer, true, false, nil then true
        when Float then value.finite?
        end
      rescue EncodingError
        false
      end

      def hooks = HOOKS.filter_map { |name, block| name if klass.respond_to?(block) && klass.public_send(block) }

      # retry_on and discard_on are blocks of ActiveJob's own among the handlers of rescue_from.
      def rescues
        found = {"retry_on" => [], "discard_on" => [], "rescue_from" => []}
        (klass.respond_to?(:rescue_handlers) ? klass.rescue_handlers : []).first(MOST).each { |name, handler| found[kind_of(handler)] << told(name, handler) }
        found
      end

      def kind_of(handler)
        return "rescue_from" unless handler.is_a?(Proc) && handler.source_location&.first.to_s.end_with?("active_job/exceptions.rb")
        handler.binding.local_variable_defined?(:attempts) ? "retry_on" : "discard_on"
      end

      def told(name, handler)
        return cut(name) unless kind_of(handler) == "retry_on"
        attempts, wait = handler.binding.local_variable_get(:attempts), handler.binding.local_variable_get(:wait)
        cut("#{name} (attempts: #{attempts}, wait: #{wait.is_a?(Proc) ? "a block" : wait})")
      end

      def callbacks
        return [] unless klass.respond_to?(:_perform_callbacks)
        names(%w[perform enqueue].flat_map { |event| klass.public_send(:"_#{event}_callbacks").filter_map { |callback| own_callback(event, callback) } })
      end

      # Rails' own callbacks log, and set locale and zone.
      def own_callback(event, callback)
        filter = callback.respond_to?(:raw_filter) ? callback.raw_filter : callback.filter
        place = filter.is_a?(Symbol) ? (klass.instance_method(filter).source_location if method?(filter)) : (filter.source_location if filter.respond_to?(:source_location))
        "#{callback.kind}_#{event}#{" :#{filter}" if filter.is_a?(Symbol)}" unless place&.first.to_s.include?("/active_job/")
      end

      def method?(name) = klass.method_defined?(name) || klass.private_method_defined?(name)

      def parameters
        return [] unless method?(:perform)
        klass.instance_method(:perform).parameters.first(MOST).map { |kind, name| [kind.to_s, cut(name.to_s)] }
      end

      # File and line, from the app's own directory on.
      def place
        file, line = klass.instance_method(:perform).source_location if method?(:perform)
        file && cut("#{file.delete_prefix("#{Dir.pwd}/")}:#{line}")
      end

      def iterable? = !!(klass.respond_to?(:iterable_job?) && klass.iterable_job?) || klass.method_defined?(:build_enumerator) || klass.method_defined?(:each_iteration)

      def modules = names(klass.included_modules.map { |each| ClassGuard::NAME.bind_call(each) }.compact.grep_v(ORDINARY))

      def current_attributes
        return [] unless defined?(::ActiveSupport::CurrentAttributes)
        base = ::ActiveSupport::CurrentAttributes
        names((base.respond_to?(:descendants) ? base.descendants : base.subclasses).filter_map(&:name))
      end

      def names(found) = found.uniq.first(MOST).map { |name| cut(name) }

      def cut(name) = name.to_s.dup.encode(Encoding::UTF_8, invalid: :replace, undef: :replace)[0, LONGEST]
    end
  end
end
