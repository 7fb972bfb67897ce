# frozen_string_literal: true

require_relative "spec_helper"
require "active_job"
require "active_support/current_attributes"
require "sidekiq_bridge/sidecar/sidekiq/class_description"

module DescribedTenant; end

class DescribedCurrent < ActiveSupport::CurrentAttributes
  attribute :user
end

class DescribedJob
  include JobModule
  include DescribedTenant
  sidekiq_options queue: "reports", retry: 3, pool: Object.new, tags: ["a"]
  sidekiq_retry_in { 1 }
  def perform(user_id, options = {}, *rest, at:, zone: nil) = nil
end

class DescribedActiveJob < ActiveJob::Base
  queue_as :mail
  retry_on IOError, wait: 2, attempts: 4
  discard_on EncodingError
  rescue_from(ArgumentError) { nil }
  before_perform :check
  around_perform { |_job, block| block.call }
  after_enqueue { nil }
  def perform(order, at: nil) = nil

  def check = nil
end

RSpec.describe SidekiqBridge::Sidecar::ClassDescription do
  def of(name, allowed: nil) = JSON.parse(JSON.generate(described_class.of(name, SidekiqBridge::Sidecar::ClassGuard.new(allowed: allowed))))

  it "tells options, hooks and parameters of a job" do
    expect(of("::DescribedJob")).to include(
      "class" => "DescribedJob", "kind" => "job", "hooks" => ["sidekiq_retry_in"], "callbacks" => [], "retry_on" => [], "iterable" => false,
      "options" => include("queue" => "reports", "retry" => 3, "pool" => "Object", "tags" => ["a"]),
      "parameters" => [%w[req user_id], %w[opt options], %w[rest rest], %w[keyreq at], %w[key zone]],
      "place" => end_with("class_description_spec.rb:19"), "modules" => include("DescribedTenant"), "current_attributes" => include("DescribedCurrent")
    )
  end

  it "tells retry_on, discard_on, rescue_from and callbacks of an ActiveJob, and none of Rails' own" do
    expect(of("DescribedActiveJob")).to include(
      "kind" => "active_job", "retry_on" => ["IOError (attempts: 4, wait: 2)"], "discard_on" => ["EncodingError"], "rescue_from" => ["ArgumentError"],
      "callbacks" => contain_exactly("before_perform :check", "around_perform", "after_enqueue"), "options" => include("queue" => "mail")
    )
  end

  it "knows no class that is not a job, nor a detour to one" do
    %w[NoSuchJob String Object::DescribedJob Kernel].each { |name| expect(of(name)).to include("kind" => "unknown") }
  end

  it "looks up no class that the sidecar would not run" do
    expect(of("DescribedJob", allowed: ["OtherJob"])).to eq("class" => "DescribedJob", "kind" => "refused")
    expect(of("DescribedJob", allowed: ["DescribedJob"])).to include("kind" => "job")
  end

  it "refuses a body that names no class" do
    ["", "{}", '{"class": 7}', '{"class": "system"}', '{"class": "A; exit"}', "[]"].each do |body|
      expect { described_class.name_in(body) }.to raise_error(SidekiqBridge::Sidecar::RequestError)
    end
  end
end
