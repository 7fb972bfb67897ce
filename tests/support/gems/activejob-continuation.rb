# frozen_string_literal: true

require "active_job"

# A stub of ActiveJob::Continuation (Rails 8.1), written from its contract: a job asks its queue adapter `stopping?` at
# each checkpoint, and enqueues itself again with its progress.
module ActiveJob
  module Continuable
    attr_accessor :continuation

    def serialize = super.merge("continuation" => continuation)

    def deserialize(data)
      super
      self.continuation = data["continuation"]
    end

    # Yields each number from the saved one on, below `count`.
    def each_step(count)
      (continuation.to_i...count).each do |number|
        yield number
        self.continuation = number + 1
        if queue_adapter.respond_to?(:stopping?) && queue_adapter.stopping?
          retry_job
          throw :interrupted
        end
      end
    end
  end
end
