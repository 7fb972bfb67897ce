# frozen_string_literal: true

require_relative "test_helper"

class DemoMixTest < ActiveSupport::TestCase
  self.use_transactional_tests = false

  setup { DemoTest.empty_redis }

  test "notes an expected outcome for each job it enqueues" do
    before = Expectation.count
    enqueued = DemoMix.new(size: 2).enqueue

    assert_equal(enqueued, Expectation.count - before)
    assert_equal(enqueued, Sidekiq::Queue.all.sum(&:size) + Sidekiq::ScheduledSet.new.size)
  end

  test "leaves the jobs for Python out where nothing would run them" do
    DemoMix.new(size: 1, native: false).enqueue

    assert_equal(0, Sidekiq::Queue.new("reports").size)
  end

  test "every payload carries the app's own field and the current attributes" do
    DemoMix.new(size: 1).enqueue
    payloads = Sidekiq::Queue.all.flat_map { |queue| queue.map(&:item) }

    assert(payloads.all? { |payload| payload["pushed_by"] == "rails_app" })
    assert(payloads.all? { |payload| payload["cattr"].to_s.include?("acme") })
  end

  test "every class but the Python one exists" do
    names = Dir[Rails.root.join("app/{jobs,sidekiq}/*.rb").to_s].map { |path| File.basename(path, ".rb").camelize }

    names.each { |name| assert(name.constantize) }
    refute(Object.const_defined?(:ReportJob))
  end
end
