"""1,000 answers in each direction while the worker has other work, and how soon ``get`` returns."""

from __future__ import annotations

import json
import statistics
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.acceptance.test_results import client
from tests.conformance.test_results import JOBS
from tests.support.redis_server import RedisServer
from tests.support.ruby_root import RubyRoot
from tests.support.stage import Stage

ANSWERS = 1000
#: From the message of the end to the return of ``get``.
MOST_SECONDS = 0.002

ASK = """
  begin
    arrived = {}
    listener = Sidekiq.redis { |redis| SidekiqBridge::Results::Waiting.redis_rb?(redis) ? redis.dup : redis.pubsub }
    now = -> { Process.clock_gettime(Process::CLOCK_MONOTONIC) }
    hear = ->(channel, word) { arrived[channel] = now.call if word == "done" }
    ready = Queue.new
    Thread.new do
      if listener.respond_to?(:psubscribe)
        listener.psubscribe("bridge:result:*") do |on|
          on.psubscribe { ready << true }
          on.pmessage { |_, channel, word| hear.call(channel, word) }
        end
      else
        listener.call("PSUBSCRIBE", "bridge:result:*")
        while (event = listener.next_event(60))
          event[0] == "pmessage" ? hear.call(event[2], event[3]) : ready << true
        end
      end
    end
    ready.pop
    (1..%d).map do |number|
      jid = Sidekiq::Client.push("class" => "AddJob", "args" => [number, 1], "queue" => "high")
      value = SidekiqBridge::Result.get(jid, timeout: 30)
      ended = now.call
      told = arrived["bridge:result:#{jid}"]
      [value - number, told && [ended - told, 0].max]
    end
  end
"""  # noqa: E501


@pytest.fixture(scope="module")
def stage(redis_server: RedisServer, ruby_root: RubyRoot) -> Iterator[Stage]:
    with Stage(redis_server, ruby_root, database=13, jobs=JOBS) as made:
        made.start_sidecar()
        made.start_worker(module="tests.support.tracked_tasks", concurrency=10)
        yield made


@pytest.fixture
def load(stage: Stage) -> Iterator[None]:
    """Other jobs of both languages, 200 a second."""
    ended = threading.Event()

    def push() -> None:
        while not ended.wait(0.01):
            for name in ("PlainJob", "SumJob"):
                stage.push_job({"class": name, "args": [1]}, "low")

    thread = threading.Thread(target=push)
    thread.start()
    yield
    ended.set()
    thread.join(5)


def report(what: str, seconds: list[float]) -> None:
    ordered = sorted(seconds)
    p50, p99 = statistics.median(ordered), ordered[int(len(ordered) * 0.99)]
    print(f"{what}: {len(ordered)} timed, p50 {p50 * 1000:.2f} ms, p99 {p99 * 1000:.2f} ms after the message")
    assert p50 <= MOST_SECONDS


@pytest.mark.usefixtures("load")
def test_python_asks_ruby(stage: Stage) -> None:
    app = client(stage)
    arrived: dict[str, float] = {}
    listening = stage.redis.pubsub()
    listening.psubscribe("bridge:result:*")

    def listen() -> None:
        for message in listening.listen():
            if message["type"] == "pmessage" and message["data"] == b"done":
                arrived[message["channel"].decode()] = time.monotonic()

    threading.Thread(target=listen, daemon=True).start()
    waited: list[float] = []
    for number in range(ANSWERS):
        result = app.send_task("TrackedJob", args=["value", number], queue="high", ignore_result=False)
        assert result.get(timeout=30) == number
        ended = time.monotonic()
        if (told := arrived.get(f"bridge:result:{result.id}")) is not None:
            waited.append(max(0.0, ended - told))
    report("Python asks Ruby", waited)


@pytest.mark.usefixtures("load")
def test_ruby_asks_python(stage: Stage) -> None:
    stage.ruby.evaluate(f"require {json.dumps(str(JOBS))}; true")
    stage.ruby.evaluate("SidekiqBridge::Result.find('x'); true")
    found: list[Any] = []
    for _ in range(5):  # an answer of the helper may take 30 s
        found += stage.ruby.evaluate(ASK % (ANSWERS // 5))
    assert [wrong for wrong, _ in found] == [1] * ANSWERS
    report("Ruby asks Python", [seconds for _, seconds in found if seconds is not None])
