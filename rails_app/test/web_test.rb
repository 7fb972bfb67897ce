# frozen_string_literal: true

require_relative "test_helper"

class WebTest < ActionDispatch::IntegrationTest
  self.use_transactional_tests = false

  # Sidekiq 8.1 goes by this header, older versions by the token in the form.
  FROM_OUR_PAGE = {"Sec-Fetch-Site" => "same-origin"}.freeze

  setup do
    DemoTest.empty_redis
    ActionController::Base.allow_forgery_protection = true
  end

  teardown { ActionController::Base.allow_forgery_protection = false }

  test "the form on the root page enqueues the mix" do
    get "/"
    post "/enqueue", params: {size: 2, native: "1", authenticity_token: css_select("form input[name=authenticity_token]").first["value"]}

    assert_redirected_to("/")
    follow_redirect!
    assert_select(".notice", /jobs enqueued/)
    assert_operator(Sidekiq::Queue.new("low").size, :>=, 10)
  end

  test "every page of Sidekiq's Web UI opens" do
    DemoMix.new(size: 1).enqueue

    %w[/sidekiq /sidekiq/busy /sidekiq/queues /sidekiq/retries /sidekiq/scheduled /sidekiq/morgue /sidekiq/queues/default].each do |page|
      get page
      assert_response(:success, page)
    end
  end

  test "a button of Sidekiq's Web UI works" do
    QuickJob.perform_in(3600)
    get "/sidekiq/scheduled"
    key = css_select("input[name='key[]']").first["value"]
    token = css_select("form input[name=authenticity_token]").first&.[]("value")
    post "/sidekiq/scheduled", params: {key: [key], add_to_queue: "1", authenticity_token: token}, headers: FROM_OUR_PAGE

    assert_response(:redirect)
    assert_equal(1, Sidekiq::Queue.new("default").size)
  end
end
