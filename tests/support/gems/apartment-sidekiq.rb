# frozen_string_literal: true

# A stub of apartment-sidekiq with the same hooks: the client writes the tenant into the job, and the server switches to
# it. The list `apartment` shows each switch and each return.

require "sidekiq"

module Apartment
  module Tenant
    KEY = :stub_apartment_tenant

    module_function

    def current = Thread.current[KEY] || "public"

    def switch(tenant)
      before, Thread.current[KEY] = Thread.current[KEY], tenant
      note("enter #{tenant}")
      yield
    ensure
      Thread.current[KEY] = before
      note("leave #{tenant}")
    end

    def note(text)
      ::Sidekiq.redis { |redis| redis.call("rpush", "apartment", text) }
    end
  end

  module Sidekiq
    module Middleware
      class Client
        def call(_job_class, job, _queue, _pool)
          job["apartment"] ||= Tenant.current
          yield
        end
      end

      class Server
        def call(_instance, job, _queue, &job_code)
          Tenant.switch(job["apartment"], &job_code)
        end
      end
    end
  end
end

Sidekiq.configure_client do |config|
  config.client_middleware { |chain| chain.add(Apartment::Sidekiq::Middleware::Client) }
end

Sidekiq.configure_server do |config|
  config.client_middleware { |chain| chain.add(Apartment::Sidekiq::Middleware::Client) }
  config.server_middleware { |chain| chain.add(Apartment::Sidekiq::Middleware::Server) }
end
