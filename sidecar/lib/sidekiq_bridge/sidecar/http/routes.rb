# frozen_string_literal: true

require "sinatra/base"
require "sidekiq_bridge/sidecar/http/api"
require "sidekiq_bridge/sidecar/http/fast_routes"
require "sidekiq_bridge/sidecar/http/request"

module SidekiqBridge
  module Sidecar
    # The routes except POST /jobs/execute (see FastRoutes). Api does the work.
    class Routes < Sinatra::Base
      configure do
        disable :static, :sessions, :logging, :method_override, :protection, :show_exceptions, :raise_errors, :dump_errors
        set :environment, :production
        set :host_authorization, {permitted_hosts: []} # the signature decides which clients may ask
      end

      def initialize(api, metrics)
        @api = api
        @metrics = metrics
        super()
      end

      # A body is a payload, whatever its declared type: Sinatra would parse a form, and use it up or refuse it. One
      # route reads its own query: Sinatra would take parameters from it, or fail.
      def call(env)
        env["CONTENT_TYPE"] = "application/json"
        env[Request::QUERY] = env["QUERY_STRING"]
        env["QUERY_STRING"] = ""
        super
      end

      get("/jobs/:identity/:token") { |identity, token| reply @api.outcome(env, "#{identity}/#{token}") }
      post("/jobs/:identity/:token/interrupt") { |identity, token| reply @api.interrupt(env, "#{identity}/#{token}") }
      post("/jobs/:identity/:token/cancel") { |identity, token| reply @api.cancel(env, "#{identity}/#{token}") }
      post("/workers/:identity/quiet") { |identity| reply @api.quiet_worker(env, identity) }
      post("/jobs/:identity/:token/body") { |identity, token| reply @api.performed(env, "#{identity}/#{token}") }
      post("/jobs/alive") { reply @api.alive(env) }
      post("/jobs/push") { reply @api.push(env) }
      post("/jobs/promote") { reply @api.promote(env) }
      post("/jobs/death") { reply @api.notices(env, :death) }
      post("/jobs/error") { reply @api.notices(env, :error) }
      post("/classes/describe") { reply @api.describe(env) }
      post("/drain") { reply @api.drain(env) }
      get("/health") { reply @api.health(env) }
      get("/health/live") { reply @api.live }
      get("/health/ready") { reply @api.ready }
      get("/metrics") { [200, {"content-type" => "text/plain; version=0.0.4"}, [@metrics.to_text]] }

      error(RequestError) { |error| reply @api.refuse(error) }
      error(Sinatra::NotFound) { reply @api.refuse(Refusals.not_found) }
      error(Sinatra::BadRequest) { reply @api.refuse(Refusals.protocol("the request cannot be read")) }
      error(Exception) { |error| reply @api.crashed(error) }

      private

      def reply(answer) = FastRoutes.rack(answer)
    end
  end
end
