# frozen_string_literal: true

threads 1, Integer(ENV.fetch("RAILS_MAX_THREADS", 5))
bind ENV.fetch("PUMA_BIND") { "tcp://127.0.0.1:#{ENV.fetch("PORT", 3000)}" }
environment ENV.fetch("RAILS_ENV", "development")
