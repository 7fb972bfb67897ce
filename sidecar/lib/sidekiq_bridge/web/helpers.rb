# frozen_string_literal: true

require "erb"
require "json"
require "sidekiq_bridge/moves"

module SidekiqBridge
  module Web
    # Used by the pages, beside the helpers of Sidekiq's own pages. Every value from Redis passes `bridge_text`.
    module Helpers
      VIEWS = File.expand_path("views", __dir__)
      LONGEST_TEXT = 2000

      # Renders views/<name>.erb inside Sidekiq's layout, or inside the page that is being rendered.
      def bridge_erb(name, **locals)
        erb(Helpers.source(name), locals: locals)
      end

      # The page of one class that moves; `error` says why a button did not work.
      def bridge_move(name, error = nil)
        move = Moves.all.find { |each| each.job_class == name }
        bridge_erb(:move, name: name, move: move, differences: Moves.differences(name), error: error)
      end

      def self.source(name)
        @sources ||= {}
        @sources[name] ||= File.read(File.join(VIEWS, "#{name}.erb"), encoding: "UTF-8")
      end

      def bridge_path(*parts) = "#{root_path}bridge#{parts.map { |part| "/#{ERB::Util.url_encode(part.to_s)}" }.join}"

      # A part of the path; Sidekiq 8 names it differently.
      def bridge_route(name) = method(:route_params).arity.zero? ? route_params[name] : route_params(name)

      def bridge_time(seconds) = seconds ? relative_time(Time.at(seconds)) : ""

      def bridge_milliseconds(value) = value ? format("%.4g ms", value) : ""

      def bridge_percent(share) = format("%.3g %%", 100 * share)

      # Any value from Redis as HTML: its text, or its JSON.
      def bridge_text(value)
        text = value.is_a?(String) || value.nil? ? value.to_s : JSON.generate(value)
        text = text.dup.force_encoding(Encoding::UTF_8).scrub
        h(text.size > LONGEST_TEXT ? "#{text[0, LONGEST_TEXT]}..." : text)
      end

      # A native element: a Content-Security-Policy need not allow a style.
      def bridge_progress(result)
        return "" unless result.percent
        %(<progress max="100" value="#{result.percent}">#{result.percent} %</progress> #{result.percent} %)
      end
    end
  end
end
