# frozen_string_literal: true

module SidekiqMiddleware
  # Client middleware: a field of the app's own in every payload, as real apps have them.
  class StampOrigin
    def call(_job_class, job, _queue, _redis_pool)
      job["pushed_by"] ||= "rails_app"
      yield
    end
  end
end
