# frozen_string_literal: true

require "spec_helper"
require "rack/mock"
require "sidekiq-bridge/web"
require "sidekiq_bridge/results"

# The tab in Sidekiq's Web UI, on Sidekiq's own application. tests/conformance/test_web_tab.py has it in a browser.
RSpec.describe SidekiqBridge::Web do
  hostile = %(<script>alert("x")</script> <%= 1 + 1 %>)

  before { Sidekiq.redis { |redis| redis.call("FLUSHDB") } }

  def page(path, method = "GET", session: {}, **options)
    env = Rack::MockRequest.env_for(path, method: method, **options).merge("rack.session" => session, "HTTP_SEC_FETCH_SITE" => "same-origin")
    status, headers, body = Sidekiq::Web.new.call(env)
    text = +""
    body.each { |part| text << part }
    [status, text, headers]
  end

  def redis(*command) = Sidekiq.redis { |connection| connection.call(*command.map(&:to_s)) }

  def track(jid, status, **fields)
    redis("HSET", "bridge:result:#{jid}", "status", status, *fields.to_a.flatten)
    redis("ZADD", "bridge:results", Time.now.to_f, jid)
  end

  def move(name, **said)
    redis("HSET", "bridge:moves", name, JSON.generate({percent: 20, shadow: 5, guard: true, since_ms: 1, changed_ms: 1, is_back: false, reason: ""}.merge(said)))
  end

  it "is a tab on each page, and opens while nothing is there" do
    expect(page("/")[1]).to include(">Bridge</a>")
    status, text = page("/bridge")
    expect(status).to eq(200)
    expect(text).to include("No job is tracked", "There is no batch", "No limit is declared", "No class moves")
  end

  it "shows tracked jobs with their progress, and one by one with result or error" do
    track("a1", "running", "class" => "ReportJob", "language" => "python", "at" => 3, "total" => 12, "message" => hostile)
    track("b2", "done", "class" => "SumJob", "language" => "ruby", "result" => %({"sum":3}))
    track("c3", "dead", "class" => "SumJob", "error_class" => "ArgumentError", "error_message" => hostile)
    # When
    text = page("/bridge")[1]
    # Then
    expect(text).to include("ReportJob", %(href="/bridge/jobs/a1"), %(<progress max="100" value="25">), "&lt;script&gt;", "&lt;%= 1 + 1 %&gt;")
    expect(text).not_to include("<script>alert")
    expect(page("/bridge/jobs/b2")[1]).to include("{&quot;sum&quot;:3}")
    expect(page("/bridge/jobs/c3")[1]).to include("ArgumentError: &lt;script&gt;")
    expect(page("/bridge/jobs/unknown")[1]).to include("Redis has no job unknown")
  end

  it "shows batches, and what one of them waits for" do
    redis("HSET", "bridge:batch:b1", "description", hostile, "total", 3, "failed", 1, "dead", 0, "children", 1, "created_at", Time.now.to_f)
    redis("HSET", "bridge:batch:b1:jobs", "j1", "w", "j2", "f", "batch:b2", "w")
    redis("ZADD", "bridge:batches", Time.now.to_f, "b1")
    expect(page("/bridge")[1]).to include(%(href="/bridge/batches/b1"), "running", "&lt;script&gt;")
    text = page("/bridge/batches/b1")[1]
    expect(text).to include("j1", "waiting", "j2", "failed", %(href="/bridge/batches/b2"))
  end

  it "shows limits: in use and waiting, for each key" do
    redis("HSET", "bridge:limits", "host:1:abc", JSON.generate([{name: "SyncJob", class: "SyncJob", concurrency: 3, key: "args.0"}]))
    redis("ZADD", "bridge:waiting", 1, "SyncJob:acme")
    redis("ZADD", "bridge:places:SyncJob:acme", "+inf", "host:1:abc/1", 1, "gone/2")
    redis("ZADD", "bridge:waiting:SyncJob:acme", 1, "j1 default", 2, "j2 default")
    cells = page("/bridge")[1][%r{<h3>Limits</h3>.*?</table>}m].scan(%r{<td>([^<]*)</td>}).flatten
    expect(cells.each_slice(8).to_a).to eq([["SyncJob", "SyncJob", "", "3", "", "acme", "1", "2"], ["SyncJob", "SyncJob", "", "3", "", "each args.0", "", ""]])
  end

  it "shows moves with both sides, and what a shadow found" do
    move("ReportJob")
    redis("HSET", "bridge:moves:runs:1:ReportJob", "python|runs", 10, "python|failures", 1, "ruby|runs", 40)
    redis("LPUSH", "bridge:moves:differences:ReportJob", JSON.generate(jid: "j9", what: "value", ruby: hostile, python: 2))
    expect(page("/bridge")[1]).to include(%(href="/bridge/moves/ReportJob"), "20 %", "1 (10 %)", "0 (0 %)")
    expect(page("/bridge/moves/ReportJob")[1]).to include("j9", "&lt;script&gt;", %(name="percent"), "Back to Ruby")
    expect(page("/bridge/moves/Other")[1]).to include("This class does not move")
  end

  it "says why the guard took a class back, and leaves out a move that has finished" do
    move("ReportJob", is_back: true, percent: 0, reason: "60 of 60 runs in Python failed")
    move("DoneJob", percent: 100, is_finished: true)
    expect(page("/bridge")[1]).to include("ReportJob").and(satisfy { |text| !text.include?("DoneJob") })
    expect(page("/bridge/moves/ReportJob")[1]).to include("Back in Ruby", "60 of 60 runs in Python failed")
    expect(page("/bridge/moves/DoneJob")[1]).to include("This class does not move")
  end

  it "shows which process runs which classes in which language" do
    %w[host:1:aaaaaaaaaaaa host:2:bbbbbbbbbbbb].each { |identity| redis("SADD", "processes", identity) }
    redis("HSET", "host:1:aaaaaaaaaaaa", "info", JSON.generate(identity: "host:1:aaaaaaaaaaaa", concurrency: 5, bridge_python: ["SumJob"]), "busy", 1, "beat", 1, "concurrency", 5)
    redis("HSET", "host:2:bbbbbbbbbbbb", "info", JSON.generate(identity: "host:2:bbbbbbbbbbbb", concurrency: 7), "busy", 0, "beat", 1, "concurrency", 7)
    redis("ZADD", "bridge:lease", 1, "host:1:aaaaaaaaaaaa")
    text = page("/bridge")[1]
    rows = text[%r{<h3>Workers</h3>.*}m].scan(%r{<td>([^<]*)</td>}).flatten.each_slice(5).to_a
    expect(rows).to eq([["host:1:aaaaaaaaaaaa", "bridge", "1 of 5", "SumJob", "all others"], ["host:2:bbbbbbbbbbbb", "Sidekiq", "0 of 7", "none", "all classes"]])
  end

  it "opens with values that no release of ours has written" do
    redis("HSET", "bridge:moves", "Odd", "not JSON")
    redis("HSET", "bridge:limits", "x", "[1, {}]")
    track("odd", "running", "at" => "x", "total" => "y", "message" => "\xff")
    expect(page("/bridge")[0]).to eq(200)
  end
end
