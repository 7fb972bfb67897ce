"""A model of a job's life against the real scripts.

Workers take, run, settle, crash between any two commands, freeze, are declared dead and come back; the
scheduler and the reapers work beside them. After every step each job is in exactly one place, and the
counters are those of the settlements that Redis accepted.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from bridge import errors
from bridge.sidekiq.clock import Timestamps
from bridge.sidekiq.decision import Bury, Decision, Discard, Done, GiveBack, Interrupt, Retry
from bridge.sidekiq.fetcher import UnitOfWork
from bridge.sidekiq.scheduler import Scheduler
from bridge.sidekiq.settlement import Settled, Settlement
from bridge.sidekiq.store import Exchange
from tests.integration.worker import Worker, connect_to, job, push
from tests.support import census
from tests.support.redis_server import RedisServer

#: (processed, failed) of each accepted decision.
COUNTS = {Done: (1, 0), Retry: (1, 1), Bury: (1, 1), Discard: (1, 1), Interrupt: (1, 1), GiveBack: (0, 0)}


@dataclass
class Accepted:
    """What Redis has accepted, also where nobody was told of it."""

    processed: int = 0
    failed: int = 0
    ended: set[str] = field(default_factory=set)

    def note(self, settlement: Settlement) -> None:
        processed, failed = COUNTS[type(settlement.decision)]
        self.processed += processed
        self.failed += failed
        if isinstance(settlement.decision, (Done, Discard)):
            self.ended.add(settlement.jid)


class Lossy:
    """A store whose next answer is lost: before the request arrives, or after it was carried out."""

    def __init__(self, store: Any, accepted: Accepted) -> None:
        self._store = store
        self._accepted = accepted
        self.lose: str | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def exchange(self, settlements: Sequence[Settlement], claim: Any) -> Exchange:
        lose, self.lose = self.lose, None
        if lose == "request":
            raise errors.StoreUnavailable("never arrived")
        result: Exchange = self._store.exchange(settlements, claim)
        for settlement, outcome in zip(settlements, result.settled, strict=True):
            if outcome is Settled.OK:
                self._accepted.note(settlement)
        if lose == "answer":
            raise errors.StoreUnavailable("carried out, and nobody knows")
        return result


class Life(RuleBasedStateMachine):
    """Rules are what can happen; ``running`` is what pool slots run, also for workers long declared dead."""

    server: RedisServer
    workers: Bundle[Worker] = Bundle("workers")
    running: Bundle[tuple[Worker, UnitOfWork]] = Bundle("running")

    def __init__(self) -> None:
        super().__init__()
        self.client = connect_to(self.server.port)
        self.client.flushdb()
        self.count = 0
        self.made: list[Worker] = []
        self.pushed: dict[str, bytes] = {}
        self.accepted = Accepted()
        reader = Worker("scheduler", self.server.port)
        self.made.append(reader)
        self.scheduler = Scheduler(reader.store, lambda: Timestamps.SECONDS)

    def teardown(self) -> None:
        for worker in self.made:
            worker.close()
        self.client.close()

    # -- the application

    @initialize(target=workers)
    def two_workers_and_some_jobs(self) -> Any:
        for _ in range(3):
            self.push_a_job()
        return multiple(self._worker(), self._worker())

    @rule()
    def push_a_job(self) -> None:
        payload = job(args=[len(self.pushed), 1.0])
        self.pushed[json.loads(payload)["jid"]] = payload
        push(self.client, "default", payload)

    @rule()
    def schedule_a_job(self) -> None:
        payload = job(at=1)
        self.pushed[json.loads(payload)["jid"]] = payload
        self.client.zadd("schedule", {payload: 1.0})

    @rule()
    def forget_the_scripts(self) -> None:
        self.client.script_flush()

    # -- workers

    @rule(target=workers)
    def start_a_worker(self) -> Worker:
        return self._worker()

    def _worker(self) -> Worker:
        self.count += 1
        worker = Worker(f"host{self.count}:1", self.server.port, slots=2)
        worker.fetcher.store = Lossy(worker.store, self.accepted)  # type: ignore[assignment]
        worker.lease.register()
        self.made.append(worker)
        return worker

    @rule(target=running, worker=workers, lose=st.sampled_from([None, None, "request", "answer"]))
    def turn(self, worker: Worker, lose: str | None) -> Any:
        """Settle what waits and take what is free, or meet a cut connection."""
        store: Any = worker.fetcher.store
        store.lose = lose
        try:
            units = worker.take()
        except errors.StoreUnavailable:
            worker.fetcher.reconnect()
            units = []
        store.lose = None
        return multiple(*((worker, unit) for unit in units))

    @rule(run=consumes(running), kind=st.sampled_from(list(COUNTS)), write=st.booleans())
    def end_a_run(self, run: tuple[Worker, UnitOfWork], kind: type[Any], write: bool) -> None:
        worker, unit = run
        worker.fetcher.settle(unit.delivery.token, self._decision(unit, kind))
        if write:
            worker.fetcher.flush()

    @rule(run=consumes(running))
    def lose_a_pool_process(self, run: tuple[Worker, UnitOfWork]) -> None:
        worker, unit = run
        worker.fetcher.settle(unit.delivery.token, GiveBack(unknown_outcome=True))

    @rule(worker=consumes(workers))
    def crash(self, worker: Worker) -> None:
        """Nothing more is heard of it; its lease runs out."""
        self.client.zadd("bridge:lease", {worker.identity: 1}, xx=True)

    @rule(worker=workers, reaper=st.none() | workers)
    def freeze(self, worker: Worker, reaper: Worker | None) -> None:
        """Its lease runs out while it stands still; it goes on later and knows of nothing."""
        self.client.zadd("bridge:lease", {worker.identity: 1}, xx=True)
        if reaper is not None:
            self.reap(reaper, all_of_them=True)

    @rule(worker=workers)
    def keep_the_lease(self, worker: Worker) -> None:
        worker.lease.renew()

    @rule(worker=consumes(workers))
    def stop_in_order(self, worker: Worker) -> None:
        worker.fetcher.hush()
        worker.fetcher.give_back_all(list(worker.fetcher.held.values()))
        worker.fetcher.flush()
        worker.lease.leave()

    @rule(worker=workers, all_of_them=st.booleans())
    def reap(self, worker: Worker, all_of_them: bool) -> None:
        for identity in worker.store.expired_leases(worker.identity, ended_only=not all_of_them):
            worker.recovery.reap(identity)

    @rule(worker=workers, victim=workers)
    def die_while_reaping(self, worker: Worker, victim: Worker) -> None:
        """Only the first job of the first dead worker gets back."""
        for identity in worker.store.expired_leases(worker.identity, ended_only=False)[:1]:
            for held in worker.store.inflight(identity)[:1]:
                worker.recovery._recover(identity, held)

    # -- the scheduler

    @rule()
    def promote(self) -> None:
        for member in self.client.zrange("retry", 0, -1):
            self.client.zadd("retry", {member: 1.0}, xx=True)
        self.scheduler.round()

    # -- what always holds

    @invariant()
    def each_job_is_in_exactly_one_place(self) -> None:
        places = set(census.assert_each_in_one_place(self.client))
        assert places | self.accepted.ended == set(self.pushed)
        assert not places & self.accepted.ended

    @invariant()
    def the_counters_are_those_of_the_accepted_settlements(self) -> None:
        processed, failed = self.client.mget("stat:processed", "stat:failed")
        assert (int(processed or 0), int(failed or 0)) == (self.accepted.processed, self.accepted.failed)

    @invariant()
    def what_is_in_flight_has_a_lease(self) -> None:
        for key in census.inflight(self.client):
            identity = key.removeprefix(b"bridge:inflight:")
            assert self.client.zscore("bridge:lease", identity) is not None

    @invariant()
    def no_worker_holds_more_than_its_slots(self) -> None:
        assert all(len(worker.fetcher.held) <= 2 for worker in self.made)

    # -- helpers

    def _decision(self, unit: UnitOfWork, kind: type[Any]) -> Decision:
        payload = unit.job.with_fields({"error_class": "X"})
        given = {Retry: (99.0, payload), Bury: (payload,), Interrupt: (payload,)}
        decision: Decision = kind(*given.get(kind, ()))
        return decision


@pytest.fixture
def life_server() -> Iterator[RedisServer]:
    directory = tempfile.mkdtemp(prefix="sb-life-")
    server = RedisServer(Path(directory))
    yield server
    server.stop()
    shutil.rmtree(directory)


def test_no_job_is_lost_or_in_two_places_whatever_happens(life_server: RedisServer) -> None:
    machine = type("LifeHere", (Life,), {"server": life_server})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=100,
            stateful_step_count=40,
            deadline=None,
            derandomize=False,
            suppress_health_check=list(HealthCheck),
        ),
    )
