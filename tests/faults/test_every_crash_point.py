"""A process that dies between any two of its Redis commands, whatever it does.

The same model as tests/integration/test_life_of_a_job.py, with death added; and every single crash point of
one whole life, in turn.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule, run_state_machine_as_test

from bridge.redis import scripts
from bridge.sidekiq.fetch.unit_of_work import UnitOfWork
from bridge.sidekiq.outcome.decision import Bury, DeadLimits, Discard, Done, GiveBack, Interrupt, Retry
from bridge.sidekiq.payload.timestamps import Timestamps
from bridge.sidekiq.schedule.due_entry import NoMiddleware
from bridge.sidekiq.schedule.scheduler import Scheduler
from bridge.sidekiq.store.arrived_settlement import settlement_batch
from bridge.sidekiq.store.claims import Exchange
from bridge.sidekiq.store.settlement import Settled, Settlement
from tests.integration.locking import Locking
from tests.integration.test_life_of_a_job import LONG_AGO, Accepted, Life, Lossy
from tests.integration.worker import ALWAYS, Worker, connect_to, job, push, serve
from tests.support import census
from tests.support.redis_server import RedisServer
from tests.support.wall_clock import WallClock

REAL_RUN = scripts.run


class Died(BaseException):
    """The process is gone: nothing of its memory is left, and no handler runs."""


class Fuse:
    """In the place of ``scripts.run``: lets so many more commands through, and then the process is dead.

    Commands go out many at once, so a death may also come between two of one round trip.
    """

    def __init__(self) -> None:
        self.left: int | None = None
        self.recoveries: Counter[str] = Counter()
        self.buried_early: list[str] = []
        self.carried_out: list[Any] = []

    def run(self, client: redis.Redis, calls: Sequence[scripts.Call], *way: Any) -> list[Any]:
        through = len(calls) if self.left is None else min(self.left, len(calls))
        results = REAL_RUN(client, calls[:through], *way) if through else []
        for call, result in zip(calls, results, strict=False):
            self._note(call, result)
        if self.left is not None:
            self.left -= through
            if through < len(calls) or self.left == 0:
                self.carried_out = results
                raise Died
        return results

    def burn(self) -> None:
        """One more command, which Redis has carried out."""
        if self.left is not None:
            self.left -= 1
            if self.left == 0:
                raise Died

    def _note(self, call: scripts.Call, result: Any) -> None:
        """How often each job was found in dead hands, by what the script itself said."""
        if call.script.name != "settle_orphan" or result not in (1, 2):
            return
        jid = call.keys[2]
        self.recoveries[jid] += 1
        if (result == 2) != (self.recoveries[jid] == DeadLimits().poison_pill):
            self.buried_early.append(jid)
        if result == 2:
            del self.recoveries[jid]


class Mortal(Lossy):
    """Notes what Redis has accepted also where the process died before it could hear of it."""

    def __init__(self, store: Any, accepted: Accepted, fuse: Fuse) -> None:
        super().__init__(store, accepted)
        self._fuse = fuse

    def exchange(self, settlements: Sequence[Settlement], claim: Any) -> Exchange:
        try:
            return super().exchange(settlements, claim)
        except Died:
            batch = settlement_batch(settlements, DeadLimits)
            known = self._fuse.carried_out[: len(batch.calls)]
            unknown = [redis.ResponseError("not carried out")] * (len(batch.calls) - len(known))
            for settlement, outcome in zip(settlements, batch.outcomes([*known, *unknown]), strict=True):
                if outcome is Settled.OK:
                    self._accepted.note(settlement)
            raise


class MortalLife(Life):
    """``Life``, in which whoever acts may die between any two commands of what he does."""

    fuse: Fuse

    def __init__(self) -> None:
        self.fuse.__init__()  # type: ignore[misc]
        super().__init__()

    def _worker(self) -> Worker:
        worker = super()._worker()
        store: Any = worker.fetcher._store
        worker.use(Mortal(store._store, self.accepted, self.fuse))
        return worker

    @rule(
        deed=st.sampled_from(["turn", "turn", "watch", "end", "end", "stop", "reap", "promote", "lease"]),
        who=st.integers(0, 2),
        which=st.integers(0, 9),
        after=st.integers(1, 6),
        kind=st.sampled_from([Done, Retry, Bury, Discard, Interrupt, GiveBack]),
        noticed=st.booleans(),
    )
    def die_while(self, deed: str, who: int, which: int, after: int, kind: type[Any], noticed: bool) -> None:
        """``noticed``: its keeper lives and ends the lease; otherwise it has to run out."""
        worker = self.workers[who]
        self.fuse.left = after
        try:
            self._do(deed, worker, which, kind)
        except Died:
            pass
        finally:
            self.fuse.left = None
        self.running = [(holder, unit) for holder, unit in self.running if holder is not worker]
        self.give_up_watches(worker)
        worker.store.leave(worker.identity) if noticed else self.expire(worker)
        self.workers[who] = self._worker()

    def _do(self, deed: str, worker: Worker, which: int, kind: type[Any]) -> None:
        match deed:
            case "turn":
                self.turn(worker, None)
            case "watch":
                self.watch(worker)
            case "end":
                self.running.sort(key=lambda entry: entry[0] is not worker)
                self.end(0 if self.running and self.running[0][0] is worker else which, kind, None)
            case "stop":
                self.stop(worker)
            case "reap":
                self.reap(worker)
            case "promote":
                self.promote(worker, which)
            case "lease":
                worker.reaper.round()

    @invariant()
    def nobody_is_buried_before_the_third_time(self) -> None:
        assert self.fuse.buried_early == []

    def teardown(self) -> None:
        try:
            self.finish_everything()
        finally:
            super().teardown()

    def finish_everything(self) -> None:
        """Whatever happened: one worker that lives gets all of it done."""
        self.heal()
        for worker in self.made:
            self.expire(worker)
        last = self._worker()
        for _ in range(200):
            self.reap(last)
            self.promote(last)
            for unit in last.take():
                self.locking.run(str(unit.job.jid))
                last.settle(unit, Done())
            if not self.client.exists("queue:default", "retry", "schedule") and census.inflight(self.client):
                break
        places = census.assert_each_in_one_place(self.client)
        assert set(places.values()) <= {"dead"}
        assert set(places) | self.accepted.ended == set(self.pushed)


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with tempfile.TemporaryDirectory(prefix="sb-crash-") as directory:
        clock = WallClock(Path(directory))
        server = RedisServer(Path(directory), wrapper=clock.wrapper)
        server.clock = clock  # type: ignore[attr-defined]
        yield server
        server.stop()


@pytest.fixture
def fuse(monkeypatch: pytest.MonkeyPatch) -> Fuse:
    fuse = Fuse()
    monkeypatch.setattr(scripts, "run", fuse.run)
    return fuse


@pytest.mark.parametrize(
    ("examples", "steps"),
    [pytest.param(15, 30, marks=pytest.mark.short), pytest.param(250, 60, marks=pytest.mark.timeout(400))],
)
def test_no_death_between_two_commands_loses_a_job(
    server: RedisServer, fuse: Fuse, examples: int, steps: int
) -> None:
    parts = {"server": server, "fuse": fuse, "clock": server.clock}  # type: ignore[attr-defined]
    machine = type("MortalLifeHere", (MortalLife,), parts)
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


# -- every crash point of one life, one after the other


def whole_life(
    worker: Worker,
    scheduler: Scheduler,
    reaper: Callable[[], None],
    run: Callable[[str], None],
    take: Callable[[Worker], list[UnitOfWork]],
) -> None:
    """Lease, promotion, claims, each kind of settlement, the recovery of another's jobs, a clean end."""
    worker.lease.register()
    scheduler.round()
    reaper()
    decisions = [
        Done(),
        Retry(1.0, job(jid="retried")),
        GiveBack(),
        Done(),
        GiveBack(unknown_outcome=True),
        Done(),
    ]
    for decision in decisions:
        for unit in take(worker)[:1]:
            run(str(unit.job.jid))
            given = (
                Retry(1.0, unit.job.with_fields({"retry_count": 0}))
                if isinstance(decision, Retry)
                else decision
            )
            worker.settle(unit, given)
    worker.fetcher.quiet()
    worker.fetcher.in_flight.give_back_all(list(worker.fetcher.in_flight.held.values()))
    worker.fetcher.flush()
    worker.lease.leave()


@pytest.mark.short
@pytest.mark.parametrize("by_watches", [False, True], ids=["by claims", "by watches"])
@pytest.mark.parametrize("middleware", [False, True], ids=["", "with client middleware that locks"])
def test_at_no_single_crash_point_of_a_life_a_job_is_lost(
    server: RedisServer, fuse: Fuse, middleware: bool, by_watches: bool
) -> None:
    points = 0
    while live_once(server, fuse, points + 1, middleware, by_watches):
        points += 1
    # Fewer would mean that the sweep has not met the commands it is about.
    assert points >= 20


def take_by_watch(worker: Worker, fuse: Fuse) -> list[UnitOfWork]:
    """A watch is announced and served. Its move is a command of its own: the worker may die behind it."""
    if not worker.fetcher.in_flight.free_slots:
        return []
    take = worker.open_watch()
    payload = serve(worker.client, take)
    fuse.burn()
    return worker.arrive(take, payload) if payload else []


def live_once(
    server: RedisServer, fuse: Fuse, commands: int, middleware: bool, by_watches: bool = False
) -> bool:
    """Die after so many commands, let another finish, and check. False when it lived to its end."""
    client = connect_to(server.port)
    client.flushdb()
    fuse.left = None
    before, worker, last = (Worker(f"host:{n}", server.port, slots=2) for n in range(3))
    jids = [f"jid-{n}" for n in range(8)]
    push(client, "default", *(job(jid=jid) for jid in jids[:5]))
    client.zadd("schedule", {job(jid=jids[5]): 1.0, job(jid=jids[6]): 1.0})
    client.zadd("retry", {job(jid=jids[7], retry_count=0): 1.0})
    for each in (before, worker, last):
        each.gate.restricts = False
    before.lease.register()
    before.take()
    client.zadd("bridge:lease", {before.identity: LONG_AGO})
    locking = Locking(client) if middleware else None
    run = locking.run if locking else lambda jid: None
    died = False
    try:
        fuse.left = commands
        take = partial(take_by_watch, fuse=fuse) if by_watches else Worker.take
        whole_life(worker, scheduler_of(worker, locking), lambda: reap(worker), run, take)
    except Died:
        died = True
    fuse.left = None
    census.assert_each_in_one_place(client)
    client.zadd("bridge:lease", {worker.identity: LONG_AGO}, xx=True)
    client.zadd("retry", dict.fromkeys(client.zrange("retry", 0, -1), 1.0) or {b"{}": 1.0}, xx=True)

    done = finish(last, locking)

    already = int(client.get("stat:processed") or 0) - int(client.get("stat:failed") or 0)
    assert not client.exists("queue:default", "retry", "schedule", "dead")
    assert not census.inflight(client)
    assert already == len(jids)
    assert set(done) <= set(jids)
    assert max(Counter(done).values()) == 1
    for each in (before, worker, last):
        each.close()
    client.close()
    return died


def reap(worker: Worker) -> None:
    for identity in worker.store.expired_leases(worker.identity, window=ALWAYS):
        worker.reaper.reap(identity)


def scheduler_of(worker: Worker, locking: Locking | None) -> Scheduler:
    middleware = locking or NoMiddleware()
    return Scheduler(worker.store, lambda: Timestamps.SECONDS, lease=worker.lease, middleware=middleware)


def finish(worker: Worker, locking: Locking | None) -> list[str]:
    worker.lease.register()
    reap(worker)
    scheduler = scheduler_of(worker, locking)
    done: list[str] = []
    for _ in range(20):
        scheduler.round()
        for unit in worker.take():
            done.append(str(unit.job.jid))
            if locking:
                locking.run(str(unit.job.jid))
            worker.settle(unit, Done())
    return done
