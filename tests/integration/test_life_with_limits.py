"""The model of a job's life, for workers with limits, and with death between any two of their commands.

Whatever happens, no more jobs run than a limit says, each job is in one place, and in the end all have run.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule, run_state_machine_as_test

from bridge import errors
from bridge.limits import declaration
from bridge.limits.limiter import Limiter
from bridge.redis import scripts
from bridge.sidekiq.fetch.take import Take
from bridge.sidekiq.fetch.unit_of_work import UnitOfWork
from bridge.sidekiq.outcome.decision import Done
from tests.faults.test_every_crash_point import Fuse, MortalLife
from tests.integration.test_life_of_a_job import Life, life_server
from tests.integration.worker import Worker, job
from tests.support import census
from tests.support.redis_server import RedisServer

__all__ = ["life_server"]

LIMITS = declaration.limits(
    [
        {"class": "HardJob", "concurrency": 2},
        {"class": "HardJob", "concurrency": 1, "key": "args.0"},
        {"queue": "default", "concurrency": 1, "key": "args.1"},
    ]
)
MOST = dict(zip(("all", "first", "second"), (limit.concurrency for limit in LIMITS), strict=True))


class LimitedWorker(Worker):
    """A worker that asks for the places of what it takes."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.limiter = Limiter(self.store.client, LIMITS, lambda: self.identity, lambda: self.fetcher)
        self.limiter.keep_order(self.fetcher)
        self.store.effects.sources.append(self.limiter.effects)
        self.lose: str | None = None
        line = self.limiter.admission._places._line
        self._send, line.send = line.send, self._lossy  # type: ignore[method-assign]

    def _lossy(self, commands: Any) -> list[Any]:
        """The question for places, which may be cut before it arrives, or after Redis has carried it out."""
        lose, self.lose = self.lose, None
        if lose == "request":
            raise redis.ConnectionError("never arrived")
        answers = self._send(commands)
        if lose == "answer":
            raise redis.ConnectionError("carried out, and the worker does not know")
        return answers

    def take(self, seen_tail: tuple[str, bytes] | None = None) -> list[UnitOfWork]:
        return self._admitted(self.fetcher.turn(seen_tail=seen_tail).units)

    def arrive(self, take: Take, payload: bytes) -> list[UnitOfWork]:
        units = self.fetcher.arrivals.admit(take, payload)
        self.fetcher.in_flight.enter(units)
        return self._admitted(units)

    def _admitted(self, units: tuple[UnitOfWork, ...]) -> list[UnitOfWork]:
        try:
            admitted = self.limiter.admit(units) if units else ()
        except errors.StoreError:
            return []
        for unit in admitted:
            self.fetcher.in_flight.started(unit.delivery.token, 1.0)
        return list(admitted)


class LifeWithLimits(Life):
    worker_class = LimitedWorker
    slots = 4

    def _job(self) -> bytes:
        number = len(self.pushed)
        payload = job(args=[number % 3, number % 4], at=1)
        self.pushed[json.loads(payload)["jid"]] = payload
        return payload

    @rule(who=st.integers(0, 2), cut=st.sampled_from(["request", "answer"]))
    def cut_the_next_question(self, who: int, cut: str) -> None:
        worker = self.workers[who]
        assert isinstance(worker, LimitedWorker)
        worker.lose = cut

    @rule(who=st.integers(0, 2))
    def move_lines(self, who: int) -> None:
        worker = self.workers[who]
        assert isinstance(worker, LimitedWorker)
        worker.limiter.lines._look_at = 0.0
        worker.limiter.lines.round()

    @invariant()
    def no_more_jobs_run_than_the_limits_say(self) -> None:
        count: Counter[Any] = Counter()
        for worker, unit in self.running:
            if self.client.hexists(f"bridge:inflight:{unit.delivery.identity}", str(unit.delivery.token)):
                first, second = unit.job.args
                count.update((("all", ""), ("first", first), ("second", second)))
            del worker
        assert all(number <= MOST[name] for (name, _), number in count.items()), count

    def teardown(self) -> None:
        try:
            self.all_jobs_run_in_the_end()
        finally:
            super().teardown()

    def all_jobs_run_in_the_end(self) -> None:
        """All workers die; others recover their jobs, and end what they may run."""
        for worker in self.workers:
            self.expire(worker)
            self.give_up_watches(worker)
        self.heal()
        # No place is kept that long for a job that does not come
        self.clock.set(7200.0)
        self.workers = [self._worker()]
        self.reap(self.workers[0])
        self.running = []
        for _ in range(100):
            if not (
                self.client.zcard("schedule")
                or self.client.zcard("retry")
                or self.client.llen("queue:default")
            ):
                break
            self.move_lines_of_all()
            self.promote(self.workers[0], 1)
            self.turn(self.workers[0], None)
            while self.running:
                self.end(0, Done, None)
            self.no_more_jobs_run_than_the_limits_say()
        places = census.assert_each_in_one_place(self.client)
        dead = self.client.zcard("dead")
        assert len(places) == dead, f"all jobs have run but those that were buried: {places}"
        assert self.client.zcard("bridge:waiting") == 0
        assert list(self.client.scan_iter("bridge:places:*")) == []

    def move_lines_of_all(self) -> None:
        for worker in self.workers:
            assert isinstance(worker, LimitedWorker)
            worker.limiter.lines._look_at = 0.0
            worker.limiter.lines.round()


class MortalLifeWithLimits(LifeWithLimits, MortalLife):
    """The same with death between any two commands."""


def run(kind: type[Life], server: RedisServer, examples: int = 30, **parts: Any) -> None:
    machine = type("LifeHere", (kind,), {"server": server, "clock": server.clock, **parts})  # type: ignore[attr-defined]
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=50,
            deadline=None,
            derandomize=False,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_limits_hold_and_no_job_is_lost_whatever_happens(life_server: RedisServer) -> None:
    run(LifeWithLimits, life_server)


def test_limits_hold_though_processes_die_between_any_two_commands(
    life_server: RedisServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fuse = Fuse()
    monkeypatch.setattr(scripts, "run", fuse.run)
    run(MortalLifeWithLimits, life_server, fuse=fuse)
