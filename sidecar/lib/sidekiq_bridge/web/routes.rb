# frozen_string_literal: true

require "sidekiq_bridge/batches/status"
require "sidekiq_bridge/limits/reader"
require "sidekiq_bridge/moves"
require "sidekiq_bridge/results/result"
require "sidekiq_bridge/web/workers"

module SidekiqBridge
  module Web
    # The pages below /bridge.
    module Routes
      MOST = 50

      module_function

      def add_to(app)
        add_lists(app)
        add_details(app)
        add_buttons(app)
      end

      def add_lists(app)
        app.get("/bridge") do
          bridge_erb(:index, results: Routes.results, batches: Batches::Reader.newest(MOST), limits: Limits::Reader.new.rows(MOST),
            moves: Moves.all, workers: Workers.all)
        end
      end

      def add_details(app)
        app.get("/bridge/jobs/:jid") do
          result = Results::Result.find(bridge_route(:jid))
          result ? bridge_erb(:job, result: result) : bridge_erb(:missing, what: "job", name: bridge_route(:jid))
        end
        app.get("/bridge/batches/:bid") do
          bid = bridge_route(:bid)
          batch = Batches::Reader.status(bid)
          batch ? bridge_erb(:batch, batch: batch, members: Batches::Reader.members(bid)) : bridge_erb(:missing, what: "batch", name: bid)
        end
        app.get("/bridge/moves/:name") { bridge_move(bridge_route(:name)) }
      end

      def add_buttons(app)
        app.post("/bridge/moves/:name") do
          name, wanted = bridge_route(:name), request.params
          begin
            wanted["back"] ? Moves.back(name) : Moves.percent(name, wanted["percent"].to_s)
          rescue Moves::Refused => error
            next bridge_move(name, error.message)
          end
          redirect(bridge_path("moves", name))
        end
      end

      # The tracked jobs that changed last.
      def results
        Results::Store.recent(MOST).filter_map { |jid| Results::Result.find(jid) }
      end
    end
  end
end
