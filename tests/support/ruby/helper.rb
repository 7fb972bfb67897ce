# frozen_string_literal: true

# The oracle: the real gem, asked by tests line by line. Reads {"call": name, "with": {...}} and answers {"ok": value} or
# {"error": text}. What is pushed, read and clicked here is Sidekiq's own doing.

require "json"
require "rack"
require "rack/test"
require "sidekiq"
require "sidekiq/api"
require "sidekiq/web"
begin
  require "rack/session" # Rack 3
rescue LoadError
  require "rack/session/cookie"
end
begin
  require "sidekiq/metrics/query"
rescue LoadError
  nil # Sidekiq 6.4 has no metrics
end
require_relative "jobs"

class Helper
  SESSION = {secret: "s" * 64, same_site: true, max_age: 86_400}.freeze

  def version = Sidekiq::VERSION

  # -- client

  def push(item:) = Sidekiq::Client.push(item)

  def push_bulk(item:) = Sidekiq::Client.push_bulk(item)

  def perform(job:, args:, set: {}) = Object.const_get(job).set(set.transform_keys(&:to_sym)).perform_async(*args)

  def perform_in(job:, seconds:, args:) = Object.const_get(job).perform_in(seconds, *args)

  def active_job(job:, args: [], keywords: {}, set: {})
    configured = Object.const_get(job).set(**set.transform_keys(&:to_sym))
    configured.perform_later(*args, **keywords.transform_keys(&:to_sym)).provider_job_id
  end

  # -- API

  def queue(name:) = Sidekiq::Queue.new(name).map { |job| entry(job) }

  def queues = Sidekiq::Queue.all.to_h { |queue| [queue.name, queue.size] }

  def latency(name:) = Sidekiq::Queue.new(name).latency

  def set(name:) = set_of(name).map { |job| entry(job) }

  def stats
    stats = Sidekiq::Stats.new
    %i[processed failed enqueued scheduled_size retry_size dead_size processes_size workers_size]
      .to_h { |name| [name, stats.public_send(name)] }
  end

  def processes
    Sidekiq::ProcessSet.new.map do |process|
      %w[identity hostname pid tag labels queues concurrency busy quiet rss beat started_at version].to_h { |k| [k, process[k]] }
    end
  end

  def work
    set = defined?(Sidekiq::WorkSet) ? Sidekiq::WorkSet.new : Sidekiq::Workers.new
    set.map do |process, tid, work|
      queue, run_at, payload = work.is_a?(Hash) ? work.values_at("queue", "run_at", "payload") : [work.queue, work.run_at, work.payload]
      {process: process, tid: tid, queue: queue, run_at: run_at.to_i, payload: payload}
    end
  end

  def signal(identity:, name:)
    process = Sidekiq::ProcessSet.new.find { |it| it["identity"] == identity }
    {"TSTP" => :quiet!, "TERM" => :stop!, "TTIN" => :dump_threads}.fetch(name).then { |verb| process.public_send(verb) }
  end

  def cancel(jid:) = StepsJob.new.tap { |job| job.jid = jid }.cancel!

  def metrics(job:)
    query = Sidekiq::Metrics::Query.new
    totals = query.top_jobs.job_results[job]
    {totals: totals&.totals, histogram: query.for_job(job).job_results[job].hist.values.flatten}
  end

  # -- Web UI

  def get(path:)
    browser.get(path)
    answer
  end

  # Clicks a button of a form: the page with the form is fetched first, as a browser does.
  def post(path:, page:, params: {})
    browser.get(page)
    token = browser.last_response.body[/name=["']authenticity_token["'] value=["']([^"']+)["']/, 1]
    browser.header("Sec-Fetch-Site", "same-origin")
    browser.post(path, params.merge("authenticity_token" => token))
    answer
  end

  # -- anything else

  def evaluate(code:) = instance_eval(code) # rubocop:disable Style/EvalWithLocation

  private

  def set_of(name)
    {"retry" => Sidekiq::RetrySet, "dead" => Sidekiq::DeadSet, "schedule" => Sidekiq::ScheduledSet}.fetch(name).new
  end

  def entry(job)
    {
      jid: job.jid, item: job.item, display_class: job.display_class, display_args: job.display_args,
      created_at: job.created_at&.to_f, enqueued_at: job.enqueued_at&.to_f,
      score: (job.score if job.respond_to?(:score)), backtrace: (job.error_backtrace if job.respond_to?(:error_backtrace)),
      value: job.value
    }
  end

  def browser
    @browser ||= Rack::Test::Session.new(Rack::MockSession.new(application)) if defined?(Rack::MockSession)
    @browser ||= Rack::Test::Session.new(application)
  end

  def application
    Rack::Builder.new do
      use Rack::Session::Cookie, **SESSION
      run Sidekiq::Web
    end.to_app
  end

  def answer
    response = browser.last_response
    body = response.body.dup.force_encoding("UTF-8").scrub
    {status: response.status, body: body, location: response.headers["Location"] || response.headers["location"]}
  end
end

Thread.report_on_exception = false
output = $stdout.dup
$stdout.reopen($stderr)
output.sync = true
helper = Helper.new
output.puts(JSON.generate(ok: helper.version))

while (line = $stdin.gets)
  asked = JSON.parse(line)
  begin
    value = helper.public_send(asked.fetch("call"), **asked.fetch("with").transform_keys(&:to_sym))
    output.puts(JSON.generate(ok: value))
  rescue Exception => e # rubocop:disable Lint/RescueException -- the test shall see it
    output.puts(JSON.generate(error: "#{e.class}: #{e.message}\n#{e.backtrace.first(12).join("\n")}".scrub))
  end
end
