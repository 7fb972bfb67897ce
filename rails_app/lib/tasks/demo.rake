# frozen_string_literal: true

namespace :demo do
  desc "Enqueue the demo's mix of jobs (SIZE=20 SLOW_SECONDS=2.0 NATIVE=1)"
  task enqueue: :environment do
    mix = DemoMix.new(
      size: Integer(ENV.fetch("SIZE", 20)),
      slow_seconds: Float(ENV.fetch("SLOW_SECONDS", 2.0)),
      native: ENV.fetch("NATIVE", "1") == "1"
    )
    puts "#{mix.enqueue} jobs enqueued"
  end
end

# Booting the app makes its tables (lib/demo_database.rb); Rails' own task would look for a schema file.
Rake::Task["db:prepare"].clear
namespace :db do
  desc "Create the demo's tables where they are missing"
  task prepare: :environment
end
