"""1,000 answers in each direction under load: ``get`` returns with the message of the end."""

from __future__ import annotations

import json
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from bridge.results import waiting
from tests.acceptance.test_results import client
from tests.conformance.test_results import JOBS
from tests.support.redis_server import RedisServer
from tests.support.ruby_root import RubyRoot
from tests.support.stage import Stage
from tests.support.waiting import wait_for

ANSWERS = 1000
#: Reads that no message calls for: before ``get`` listens, and once it does.
READS = 2
#: A ``get`` that misses its message would look again by itself after 15 s: here it never returns.
NEVER_SECONDS = 3600

LISTEN = """
  waiting = SidekiqBridge::Results::Waiting
  waiting.send(:remove_const, :LOOK_SECONDS)
  waiting.const_set(:LOOK_SECONDS, %d)
  $reads, $messages, $told = Hash.new(0), Hash.new(0), {}
  count = Module.new { def read(jid) = super.tap { $reads[jid] += 1 } }
  SidekiqBridge::Results::Store.singleton_class.prepend(count)
  listener = Sidekiq.redis { |redis| waiting.redis_rb?(redis) ? redis.dup : redis.pubsub }
  hear = lambda do |channel, word|
    jid = channel.delete_prefix("bridge:result:")
    $messages[jid] += 1
    $told[jid] = Process.clock_gettime(Process::CLOCK_MONOTONIC) if word == "done"
  end
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
"""
ASK = """
  (1..%d).map do |number|
    jid = Sidekiq::Client.push("class" => "AddJob", "args" => [number, 1], "queue" => "high")
    value = SidekiqBridge::Result.get(jid)
    ended = Process.clock_gettime(Process::CLOCK_MONOTONIC)
    sleep 0.001 until $told[jid]
    [value - number, $reads[jid], $messages[jid], [ended - $told[jid], 0].max]
  end
"""


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


def report(what: str, reads: list[tuple[int, int]], seconds: list[float]) -> None:
    """``reads`` has those of each ``get``, and the messages about its job."""
    ordered = sorted(seconds)
    p50, p99 = statistics.median(ordered), ordered[int(len(ordered) * 0.99)]
    print(f"{what}: {len(ordered)} timed, p50 {p50 * 1000:.2f} ms, p99 {p99 * 1000:.2f} ms after the message")
    assert len(reads) == ANSWERS
    assert [each for each in reads if each[0] > READS + each[1]] == []


@pytest.mark.usefixtures("load")
def test_python_asks_ruby(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "LOOK_SECONDS", NEVER_SECONDS)
    app = client(stage)
    reads, messages, told = Counter[str](), Counter[str](), dict[str, float]()
    store = app.bridge.results.store
    monkeypatch.setattr(store, "read", counted(store.read, reads))
    listening = stage.redis.pubsub()
    listening.psubscribe("bridge:result:*")

    def listen() -> None:
        for message in listening.listen():
            if message["type"] == "pmessage":
                jid = message["channel"].decode().removeprefix("bridge:result:")
                messages[jid] += 1
                if message["data"] == b"done":
                    told[jid] = time.monotonic()

    threading.Thread(target=listen, daemon=True).start()
    ended: dict[str, float] = {}
    for number in range(ANSWERS):
        result = app.send_task("TrackedJob", args=["value", number], queue="high", ignore_result=False)
        assert result.get() == number
        ended[result.id] = time.monotonic()
    wait_for(lambda: ended.keys() <= told.keys(), "the messages to be heard here too")
    late = [max(0.0, ended[jid] - told[jid]) for jid in ended]
    report("Python asks Ruby", [(reads[jid], messages[jid]) for jid in ended], late)


def counted(read: Callable[[str], Any], reads: Counter[str]) -> Callable[[str], Any]:
    def counting(jid: str) -> Any:
        reads[jid] += 1
        return read(jid)

    return counting


@pytest.mark.usefixtures("load")
def test_ruby_asks_python(stage: Stage) -> None:
    stage.ruby.evaluate(f"require {json.dumps(str(JOBS))}; true")
    stage.ruby.evaluate("SidekiqBridge::Result.find('x'); true")
    stage.ruby.evaluate(LISTEN % NEVER_SECONDS)
    found: list[Any] = []
    for _ in range(5):  # an answer of the helper may take 30 s
        found += stage.ruby.evaluate(ASK % (ANSWERS // 5))
    assert [each[0] for each in found] == [1] * ANSWERS
    reads = [(each[1], each[2]) for each in found]
    report("Ruby asks Python", reads, [each[3] for each in found])
