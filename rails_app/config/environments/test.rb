# frozen_string_literal: true

Rails.application.configure do
  config.eager_load = false
  config.consider_all_requests_local = true
  config.action_mailer.delivery_method = :test
  config.log_level = ENV.fetch("RAILS_LOG_LEVEL", "warn").to_sym
end
