"""A worker with limits that dies between any two of its commands: no place is lost, no job runs twice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import redis

from bridge.limits import declaration
from bridge.limits.limiter import Limiter
from bridge.redis import scripts
from bridge.sidekiq import keys
from bridge.sidekiq.fetch.unit_of_work import UnitOfWork
from bridge.sidekiq.outcome.decision import Done, GiveBack, Retry
from tests.integration.worker import Worker, job, push
from tests.support import census

REAL_RUN = scripts.run
LIMITS = declaration.limits(
    [
        {"class": "HardJob", "concurrency": 2},
        {"class": "HardJob", "concurrency": 1, "key": "args.0"},
        {"queue": "default", "concurrency": 2, "key": "class"},
    ]
)
JOBS = 8
#: More scripts than one life has.
LAST_POINT = 150


class Died(BaseException):
    """The process is gone: no handler runs."""


class Fuse:
    """In the place of ``scripts.run``: lets so many more scripts through, and then the process is dead."""

    def __init__(self) -> None:
        self.left: int | None = None

    def run(self, client: redis.Redis, calls: Sequence[scripts.Call], *way: Any) -> list[Any]:
        through = len(calls) if self.left is None else min(self.left, len(calls))
        results = REAL_RUN(client, calls[:through], *way) if through else []
        if self.left is not None:
            self.left -= through
            if through < len(calls):
                raise Died
        return results


@pytest.fixture
def fuse(monkeypatch: pytest.MonkeyPatch) -> Fuse:
    made = Fuse()
    monkeypatch.setattr(scripts, "run", made.run)
    return made


class Limited:
    """A worker with limits."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.limiter = Limiter(worker.store.client, LIMITS, lambda: worker.identity, lambda: worker.fetcher)
        self.limiter.keep_order(worker.fetcher)
        worker.store.effects.sources.append(self.limiter.effects)
        worker.lease.ensure()

    def take(self) -> list[UnitOfWork]:
        units = self.worker.fetcher.turn().units
        return list(self.limiter.admit(units)) if units else []

    def live(self, ends: Sequence[Any]) -> None:
        """Take and end jobs until there are none."""
        self.limiter.lines.round()
        running: list[UnitOfWork] = []
        for turn in range(40):
            running += self.take()
            self.check(running)
            if not running:
                break
            unit = running.pop(0)
            self.worker.fetcher.settle(unit.delivery.token, ends[turn % len(ends)])
            self.worker.fetcher.turn(claim=False)

    def check(self, running: Sequence[UnitOfWork]) -> None:
        assert len(running) <= 2
        args = [unit.job.args[0] for unit in running]
        assert len(set(args)) == len(args)


@pytest.fixture
def make(make_worker: Callable[..., Worker]) -> Callable[[], Limited]:
    return lambda: Limited(make_worker(slots=4))


@pytest.mark.parametrize(
    "ends",
    [[Done()], [Done(), GiveBack()], [Done(), Retry(1.0, b"{}"), Done()]],
    ids=["done", "back", "retry"],
)
def test_every_crash_point_of_a_worker_with_limits(
    make: Callable[[], Limited], fuse: Fuse, ends: Sequence[Any], empty_redis: redis.Redis
) -> None:
    for point in range(LAST_POINT):
        empty_redis.flushdb()
        jids = [f"j{number}" for number in range(JOBS)]
        push(empty_redis, "default", *(job(jid=jid, args=[n % 3]) for n, jid in enumerate(jids)))

        # Given a worker that dies after so many scripts
        first = make()
        fuse.left = point
        try:
            first.live(ends)
            survived = True
        except Died:
            survived = False
        fuse.left = None
        census.assert_each_in_one_place(empty_redis)

        # When another one takes its jobs over
        first.worker.store.leave(first.worker.identity)
        second = make()
        second.worker.reaper.reap(first.worker.identity)
        second.limiter.lines.reaped(first.worker.identity)
        second.limiter.lines.round()
        second.live([Done()])

        # Then every job was processed once, and nothing is left
        assert int(empty_redis.get("stat:processed") or 0) == JOBS, point
        assert empty_redis.llen("queue:default") == 0, point
        assert empty_redis.zcard("schedule") == 0, point
        assert not census.inflight(empty_redis), point
        for kind in ("places", "waiting"):
            assert list(empty_redis.scan_iter(f"bridge:{kind}:*")) == [], (point, kind)
        assert empty_redis.zcard(keys.WAITING) == 0, point
        if survived:
            assert point > 15
            break
    else:
        pytest.fail("the life is longer than its crash points")
