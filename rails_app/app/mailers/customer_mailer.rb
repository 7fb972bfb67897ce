# frozen_string_literal: true

class CustomerMailer < ActionMailer::Base
  default from: "demo@example.com"

  def welcome(customer, coupon: nil)
    mail(to: customer.email, subject: "Welcome, #{customer.name}", content_type: "text/plain",
      body: "Hello #{customer.name}!#{" Your coupon: #{coupon}" if coupon}\n")
  end
end
