# frozen_string_literal: true

class DemoController < ActionController::Base
  protect_from_forgery with: :exception

  LARGEST = 1_000

  def index
    @flower_url = ENV.fetch("FLOWER_URL", "http://127.0.0.1:5555")
    @recent = LedgerEntry.order(id: :desc).limit(25)
  end

  def enqueue
    size = params.fetch(:size, 20).to_i.clamp(1, LARGEST)
    jobs = DemoMix.new(size: size, native: params[:native] == "1").enqueue
    redirect_to root_path, notice: "#{jobs} jobs enqueued."
  end
end
