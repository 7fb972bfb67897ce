# frozen_string_literal: true

Rails.application.config.active_job.custom_serializers << MoneySerializer
