"""Check 63: Ruby processes and bridge workers as one fleet, and the way over to the bridge and back."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.support import census
from tests.support.redis_server import RedisServer
from tests.support.ruby_root import RubyRoot
from tests.support.stage import Stage, new_jid
from tests.support.stock_sidekiq import StockSidekiq
from tests.support.waiting import wait_for, wait_until_equal
from tests.support.worker_process import WorkerProcess

QUEUES = "default,low"
#: How the 10,000 come to be: in two queues, waiting for their time, in the middle of their retries, failing.
JOBS = {"default": 3500, "low": 3500, "schedule": 1200, "retry": 1200, "fails": 600}


@dataclass
class Fleet:
    """Both kinds of worker on one Redis; each is started and stopped at will."""

    stage: Stage
    ruby: StockSidekiq | None = None
    bridge: WorkerProcess | None = None
    ruby_pids: set[int] = field(default_factory=set)

    def start_ruby(self) -> None:
        stage = self.stage
        self.ruby = StockSidekiq(
            *(stage.root, stage.place, stage.redis_url, "-q", "default", "-q", "low", "-c", "5"),
            env={"TEST_POLL_INTERVAL": "1"},
        )
        self.ruby_pids.add(self.ruby.process.pid)

    def start_bridge(self) -> None:
        self.bridge = self.stage.make_worker("-Q", QUEUES, concurrency=5, name="bridge")

    def stop_ruby(self) -> None:
        if self.ruby is not None:
            self.ruby.stop()
        self.ruby = None

    def stop_bridge(self) -> None:
        if self.bridge is not None:
            assert self.bridge.terminate() == 0, self.bridge.log
        self.bridge = None

    def done_by(self) -> tuple[Counter[str], int, int]:
        """How often each job was done, and how many by Ruby's own process and by the bridge."""
        done = [line for line in self.stage.ledger.lines if line["event"] == "done"]
        by_ruby = sum(line["pid"] in self.ruby_pids for line in done)
        return Counter(line["jid"] for line in done), by_ruby, len(done) - by_ruby

    def stop(self) -> None:
        for part in (self.ruby, self.bridge):
            if part is not None:
                part.process.kill()


@pytest.fixture
def fleet(redis_server: RedisServer, ruby_root: RubyRoot) -> Iterator[Fleet]:
    with redis_server.client(6) as client:
        client.flushdb()
    stage = Stage(redis_server, ruby_root, database=6)
    made = Fleet(stage)
    try:
        stage.start_sidecar()
        yield made
    finally:
        made.stop()
        stage.stop()


@pytest.mark.timeout(240)
def test_check_63_ten_thousand_jobs_of_a_mixed_fleet_run_once_each_while_both_sides_come_and_go(
    fleet: Fleet, sidekiq: tuple[int, ...]
) -> None:
    stage = fleet.stage
    jobs = sum(JOBS.values())
    fleet.start_ruby()
    fleet.start_bridge()
    feed = threading.Thread(target=push_all, args=(stage, sidekiq))
    feed.start()

    # Whenever another tenth has run one side ends, and comes again while the other works on.
    for tenth, (stop, start) in enumerate(2 * [
        (fleet.stop_bridge, fleet.start_bridge),
        (fleet.stop_ruby, fleet.start_ruby),
    ]):  # fmt: skip
        reach(stage, (tenth + 1) * jobs // 10)
        stop()
        start()
    feed.join()

    reach(stage, jobs)
    stage.wait_idle()
    wait_until_equal(stage.counters, (jobs, JOBS["fails"]), "processed and failed", 30)
    times, by_ruby, by_bridge = fleet.done_by()
    assert set(times.values()) == {1}
    assert by_ruby + by_bridge == jobs - JOBS["fails"]
    assert min(by_ruby, by_bridge) > jobs / 50, (by_ruby, by_bridge)
    assert stage.queued == {}
    assert [stage.redis.zcard(name) for name in ("schedule", "retry", "dead")] == [0, 0, 0]
    census.assert_keys_clean(stage.redis)


def push_all(stage: Stage, sidekiq: tuple[int, ...]) -> None:
    """The 10,000 in 20 parts, so that there is always more to come while a side is away."""
    now = int(time.time() * 1000) if sidekiq >= (8,) else time.time()
    retrying = {"retry": True, "retry_count": 2, "failed_at": now, "retried_at": now}
    for part in range(20):
        number = {name: count // 20 for name, count in JOBS.items()}
        with stage.redis.pipeline(transaction=False) as pipeline:
            pipeline.sadd("queues", "default", "low")
            for name in ("default", "low"):
                pipeline.lpush(f"queue:{name}", *(payload(name) for _ in range(number[name])))
            pipeline.lpush(
                "queue:low", *(payload("low", **{"class": "RetryFalseJob"}) for _ in range(number["fails"]))
            )
            due = time.time() + part / 10
            pipeline.zadd("schedule", {payload("low"): due + n / 100 for n in range(number["schedule"])})
            pipeline.zadd(
                "retry", {payload("default", **retrying): due + n / 100 for n in range(number["retry"])}
            )
            pipeline.execute()
        reach(stage, part * sum(number.values()))


def payload(queue: str, **fields: Any) -> str:
    return json.dumps({"class": "EchoJob", "args": [], "jid": new_jid(), "queue": queue, **fields})


def reach(stage: Stage, jobs: int) -> None:
    """Wait until so many jobs have left at least a line each."""
    wait_for(lambda: ended(stage) >= jobs, f"{jobs} jobs to have run", 90)


def ended(stage: Stage) -> int:
    text = stage.ledger.path.read_bytes()
    return text.count(b'"event":"done"') + text.count(b'"event":"failed"')


@pytest.mark.timeout(180)
def test_the_way_over_to_the_bridge_and_back_under_a_feed_loses_nothing_and_leaves_no_key(
    fleet: Fleet,
) -> None:
    stage = fleet.stage
    feed = Feed(stage)
    feed.start()
    try:
        fleet.start_ruby()
        feed.wait_for_more(200)
        fleet.start_bridge()
        feed.wait_for_more(200)
        fleet.stop_ruby()
        feed.wait_for_more(200)
        fleet.start_ruby()
        fleet.stop_bridge()
        left = census.private_keys(stage.redis)
        feed.wait_for_more(200)
    finally:
        feed.end()
    everything = set(feed.jids)
    wait_for(lambda: fleet.done_by()[0].keys() >= everything, "every job to be done", 60)
    fleet.stop_ruby()

    times, by_ruby, by_bridge = fleet.done_by()
    assert times == Counter(feed.jids)
    assert min(by_ruby, by_bridge) > 150, (by_ruby, by_bridge)
    assert left == [], "a clean stop leaves nothing of the bridge's own"
    assert stage.queued == {}
    census.assert_keys_clean(stage.redis)
    kept = {b"queues", b"stat:processed", b"stat:failed"}
    lasting = {key for key in stage.redis.scan_iter(count=1000) if stage.redis.ttl(key) == -1}
    assert lasting <= kept, "Sidekiq cleans nothing else either, and it makes these itself"


class Feed(threading.Thread):
    """Pushes 100 jobs a second with the real client: at once, in a second, and such as fail at first."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(daemon=True)
        self.stage = stage
        self.jids: list[str] = []
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.wait(0.1):
            for number in range(10):
                self.jids.append(self._push(number))

    def _push(self, number: int) -> str:
        if number == 0:
            jid: str = self.stage.ruby.call("perform_in", job="EchoJob", seconds=1, args=[])
            return jid
        if number == 1:
            return self.stage.ruby.push("OnceFailingJob", queue="low")
        return self.stage.ruby.push("EchoJob", queue=("default", "low")[number % 2])

    def wait_for_more(self, jobs: int) -> None:
        """Wait until so many more jobs have run; the feed goes on."""
        target = ended(self.stage) + jobs
        reach(self.stage, target)

    def end(self) -> None:
        self._over.set()
        self.join()
