# frozen_string_literal: true

# Without a lock file the app has no bundle: it uses the machine's gems.
# A team runs `bundle install` once, and the bundle holds from then on.
ENV["BUNDLE_GEMFILE"] ||= File.expand_path("../Gemfile", __dir__)
if File.exist?("#{ENV["BUNDLE_GEMFILE"]}.lock")
  require "bundler/setup"
else
  ENV.delete("BUNDLE_GEMFILE")
end

# Rails uses both without requiring them: Bundler brings Pathname, and older concurrent-ruby brought Logger.
require "logger"
require "pathname"
