# frozen_string_literal: true

require_relative "lib/sidekiq_bridge/sidecar/version"

Gem::Specification.new do |spec|
  spec.name = "sidekiq-bridge-sidecar"
  spec.version = SidekiqBridge::Sidecar::VERSION
  spec.summary = "Runs Sidekiq jobs for a worker that is not Ruby"
  spec.description = "Boots a Rails app as Sidekiq would and performs the jobs that a Sidekiq Bridge worker sends, over HTTP."
  spec.authors = ["The Sidekiq Bridge authors"]
  spec.license = "MIT"
  spec.required_ruby_version = ">= 3.0"
  spec.files = Dir["lib/**/*.{rb,lua,erb}", "bin/*", "README.md"]
  spec.bindir = "bin"
  spec.executables = ["sidecar"]

  spec.add_dependency "puma", ">= 5.6", "< 9"
  spec.add_dependency "rack", ">= 2.2", "< 4"
  spec.add_dependency "sidekiq", ">= 6.4", "< 9"
  spec.add_dependency "sinatra", ">= 3.0", "< 5"
end
