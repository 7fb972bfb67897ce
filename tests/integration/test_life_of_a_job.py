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
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from bridge import errors
from bridge.sidekiq.fetch.large_jobs import LARGE_BYTES
from bridge.sidekiq.fetch.take import Take
from bridge.sidekiq.fetch.unanswered_claims import UnansweredClaims
from bridge.sidekiq.fetch.unit_of_work import UnitOfWork
from bridge.sidekiq.outcome.decision import Bury, Discard, Done, GiveBack, Interrupt, Retry
from bridge.sidekiq.payload.timestamps import Timestamps
from bridge.sidekiq.schedule.due_entry import NoMiddleware
from bridge.sidekiq.schedule.scheduler import Scheduler
from bridge.sidekiq.store.claims import Exchange
from bridge.sidekiq.store.settlement import Settled, Settlement
from tests.integration.locking import Locking
from tests.integration.worker import ALWAYS, Worker, connect_to, job, push, serve
from tests.support import census
from tests.support.redis_server import RedisServer
from tests.support.wall_clock import WallClock

#: The end of a lease of 15 s that has run out.
LONG_AGO = 1 + 15 / 1024

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
    """A store whose next answer is lost: before the request arrives, or after it was carried out.

    Or the request is "late": the network holds it, and delivers it when it heals.
    """

    def __init__(self, store: Any, accepted: Accepted) -> None:
        self._store = store
        self._accepted = accepted
        self.lose: str | None = None
        self.held_by_network: list[tuple[Sequence[Settlement], Any]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def exchange(self, settlements: Sequence[Settlement], claim: Any) -> Exchange:
        lose, self.lose = self.lose, None
        if lose == "request":
            raise errors.StoreUnavailable("never arrived")
        if lose == "late":
            self.held_by_network.append((settlements, claim))
            raise errors.StoreUnavailable("not arrived yet")
        result = self._carry_out(settlements, claim)
        if lose == "answer":
            raise errors.StoreUnavailable("carried out, and nobody knows")
        return result

    def heal(self) -> None:
        """What the network holds arrives, the last sent first."""
        held, self.held_by_network = self.held_by_network, []
        for settlements, claim in reversed(held):
            self._carry_out(settlements, claim)

    def _carry_out(self, settlements: Sequence[Settlement], claim: Any) -> Exchange:
        result: Exchange = self._store.exchange(settlements, claim)
        for settlement, outcome in zip(settlements, result.settled, strict=True):
            if outcome is Settled.OK:
                self._accepted.note(settlement)
        return result


class Life(RuleBasedStateMachine):
    """One rule, which names what happens next and to whom: so every step does something.

    ``running`` is what pool slots run, also for workers that were declared dead long ago.
    """

    server: RedisServer
    clock: WallClock
    """Of the machine that Redis runs on."""
    worker_class: type[Worker] = Worker
    slots = 2

    def __init__(self) -> None:
        super().__init__()
        self.client = connect_to(self.server.port)
        self.client.flushdb()
        self.pushed: dict[str, bytes] = {}
        self.accepted = Accepted()
        self.made: list[Worker] = []
        self.running: list[tuple[Worker, UnitOfWork]] = []
        self.seconds = 0.0
        """Since the start: jobs that arrived a while ago enter the hash."""
        self.watches: list[tuple[Worker, Take]] = []
        """Watches that wait for a job."""
        self.paused: list[Worker] = []
        """Workers whose last claim has no answer."""
        self.late_watches: list[Take] = []
        """Watches that were given up: Redis has them still, or gets them when the network heals."""
        self.workers = [self._worker(), self._worker(), self._worker()]
        self.locking = Locking(self.client)
        self.clock.set(0.0)

    def teardown(self) -> None:
        for worker in self.made:
            worker.close()
        self.client.close()

    @rule(
        happening=st.sampled_from(
            [
                "push",
                "push",
                "turn",
                "turn",
                "turn",
                "turn",
                "watch",
                "watch",
                "serve",
                "serve",
                "serve",
                "run_for_a_while",
                "end",
                "end",
                "end",
                "lose_process",
                "reap",
                "reap",
                "freeze",
                "freeze_and_reap",
                "keep_the_lease",
                "stop",
                "crash",
                "schedule",
                "promote",
                "half_a_reap",
                "forget_the_scripts",
                "set_the_clock",
                "look",
                "heal",
                "heal",
            ]
        ),
        who=st.integers(0, 2),
        other=st.integers(0, 2),
        which=st.integers(0, 9),
        cut=st.sampled_from([None, None, None, "request", "answer", "late"]),
        kind=st.sampled_from(list(COUNTS)),
    )
    def step(  # noqa: C901 - the list of all that can happen
        self, happening: str, who: int, other: int, which: int, cut: str | None, kind: type[Any]
    ) -> None:
        worker, reaper = self.workers[who], self.workers[other]
        match happening:
            case "push":
                push(self.client, "default", self._job())
            case "schedule":
                self.client.zadd("schedule", {self._job(): 1.0})
            case "turn":
                self.turn(worker, cut)
            case "watch":
                self.watch(worker)
            case "serve":
                self.serve(which, cut)
            case "run_for_a_while":
                self.seconds += 1.0
            case "end":
                self.end(which, kind, cut)
            case "lose_process":
                self.end(which, GiveBack, cut, unknown_outcome=True)
            case "freeze":
                self.expire(worker)
            case "freeze_and_reap":
                self.expire(worker)
                self.reap(reaper)
            case "crash":
                self.expire(worker)
                self.give_up_watches(worker)
                self.workers[who] = self._worker()
            case "keep_the_lease":
                worker.lease.renew()
            case "stop":
                self.stop(worker)
                self.workers[who] = self._worker()
            case "reap":
                self.reap(reaper)
            case "half_a_reap":
                self.half_a_reap(reaper)
            case "promote":
                self.promote(worker, which)
            case "set_the_clock":
                self.clock.set((-3600.0, -20.0, 0.0, 20.0, 3600.0)[which % 5])
            case "look":
                self.look()
            case "heal":
                self.heal()
            case "forget_the_scripts":
                self.client.script_flush()

    # -- what happens

    def turn(self, worker: Worker, cut: str | None) -> None:
        """Settle what waits and take what is free, or meet a cut connection."""
        self._store(worker).lose = cut
        try:
            units = worker.take()
            for unit in units:
                self.locking.run(str(unit.job.jid))
            self.running += [(worker, unit) for unit in units]
        except errors.StoreUnavailable:
            worker.fetcher.reconciler.reconnect()
            # As the poller does: the cut claim may have filled the slots, so it asks before it watches again.
            for _, take in [entry for entry in self.watches if entry[0] is worker]:
                worker.fetcher.arrivals.close(take)
            self.give_up_watches(worker)
            self.paused.append(worker)
        else:
            self.paused = [each for each in self.paused if each is not worker]
        self._store(worker).lose = None

    def watch(self, worker: Worker) -> None:
        """One watch for each free slot at most, and none after a claim without an answer."""
        if any(each is worker for each in self.paused):
            return
        armed = sum(holder is worker for holder, _ in self.watches)
        take = worker.fetcher.arrivals.open(worker.client, "default")
        if take is not None and armed < worker.fetcher.in_flight.free_slots:
            take.is_marked = False
            self.watches.append((worker, take))
        elif take is not None:
            worker.fetcher.arrivals.close(take)

    def serve(self, which: int, cut: str | None) -> None:
        """Redis serves a watch, and the answer arrives; or the watch is cut before, on the way, or after."""
        if not self.watches:
            return
        worker, take = self.watches.pop(which % len(self.watches))
        payload = serve(self.client, take) if cut in (None, "answer") else None
        if cut == "late":
            self.late_watches.append(take)
        if cut is not None or payload is None:
            worker.fetcher.arrivals.close(take)
            return
        units = worker.arrive(take, payload)
        self.running += [(worker, unit) for unit in units]
        for unit in units:
            self.locking.run(str(unit.job.jid))
        self.watches.append((worker, take))

    def give_up_watches(self, worker: Worker) -> None:
        """Its process is gone, and Redis does not know."""
        self.late_watches += [take for holder, take in self.watches if holder is worker]
        self.watches = [entry for entry in self.watches if entry[0] is not worker]

    def end(self, which: int, kind: type[Any], cut: str | None, **options: Any) -> None:
        """A run ends with a decision, which is written now or lost on the way for the moment."""
        if not self.running:
            return
        worker, unit = self.running.pop(which % len(self.running))
        payload = unit.job.with_fields({"error_class": "X"})
        given = {Retry: (99.0, payload), Bury: (payload,), Interrupt: (payload,)}
        worker.fetcher.settle(unit.delivery.token, kind(*given.get(kind, ()), **options))
        self._store(worker).lose = cut
        worker.fetcher.flush()
        self._store(worker).lose = None

    def heal(self) -> None:
        """The network delivers all it holds, also what workers had sent that are gone by now."""
        for worker in self.made:
            self._store(worker).heal()
        late, self.late_watches = self.late_watches, []
        for take in late:
            serve(self.client, take)

    def expire(self, worker: Worker) -> None:
        """It stands still for longer than its lease."""
        self.client.zadd("bridge:lease", {worker.identity: LONG_AGO}, xx=True)

    def expire_and_reap(self, worker: Worker) -> None:
        self.expire(worker)
        for other in self.workers:
            if other is not worker:
                self.reap(other)

    def stop(self, worker: Worker) -> None:
        self.give_up_watches(worker)
        worker.fetcher.quiet()
        worker.fetcher.in_flight.give_back_all(list(worker.fetcher.in_flight.held.values()))
        worker.fetcher.flush()
        worker.lease.leave()

    def reap(self, worker: Worker) -> None:
        for identity in worker.store.expired_leases(worker.identity, window=ALWAYS):
            worker.reaper.reap(identity)

    def half_a_reap(self, worker: Worker) -> None:
        """A reaper that dies after the first job of the first dead worker."""
        for identity in worker.store.expired_leases(worker.identity, window=ALWAYS)[:1]:
            worker.store.fence_all_arrived(identity)
            for held in worker.store.inflight(identity)[:1]:
                worker.reaper._recover(identity, held)

    def promote(self, worker: Worker, which: int = 0) -> None:
        """With client middleware that halts what is locked, or without any; or by a worker that freezes."""
        for member in self.client.zrange("retry", 0, -1):
            self.client.zadd("retry", {member: 1.0}, xx=True)
        self.locking.meanwhile = (lambda: self.expire_and_reap(worker)) if which == 9 else (lambda: None)
        middleware = NoMiddleware() if which in (1, 2) else self.locking
        Scheduler(worker.store, lambda: Timestamps.SECONDS, lease=worker.lease, middleware=middleware).round()
        self.locking.meanwhile = lambda: None

    def look(self) -> None:
        """A while passes, and each worker renews and looks at the others as the clock of Redis goes."""
        for _ in range(4):
            for each in self.workers:
                each.now += 1.6
                each.reaper.round()

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
            # bridge:inflight:<identity>, or bridge:arrived:<identity>:<watch>
            identity = b":".join(key.split(b":")[2:5])
            assert self.client.zscore("bridge:lease", identity) is not None

    @invariant()
    def no_worker_holds_more_than_its_slots(self) -> None:
        assert all(len(worker.fetcher.in_flight.held) <= self.slots for worker in self.made)

    # -- helpers

    def _job(self) -> bytes:
        # Small jobs and large ones in turn, two of each: they are claimed in different ways.
        text = "x" * LARGE_BYTES * (len(self.pushed) // 2 % 2)
        payload = job(args=[len(self.pushed), 1.0, text], at=1)
        self.pushed[json.loads(payload)["jid"]] = payload
        return payload

    def _worker(self) -> Worker:
        worker = self.worker_class(f"host{len(self.made)}:1", self.server.port, slots=self.slots)
        worker.use(Lossy(worker.store, self.accepted))
        worker.gate.restricts = False
        # The real clock would make two runs of the same steps differ.
        worker.fetcher.in_flight.unanswered = UnansweredClaims(clock=lambda: 0.0)
        worker.fetcher.arrivals.clock = lambda: self.seconds
        worker.lease.register()
        self.made.append(worker)
        return worker

    def _store(self, worker: Worker) -> Lossy:
        store = worker.fetcher._store
        assert isinstance(store, Lossy)
        return store


@pytest.fixture
def life_server() -> Iterator[RedisServer]:
    directory = tempfile.mkdtemp(prefix="sb-life-")
    clock = WallClock(Path(directory))
    server = RedisServer(Path(directory), wrapper=clock.wrapper)
    server.clock = clock  # type: ignore[attr-defined]
    yield server
    server.stop()
    shutil.rmtree(directory)


def test_no_job_is_lost_or_in_two_places_whatever_happens(life_server: RedisServer) -> None:
    machine = type("LifeHere", (Life,), {"server": life_server, "clock": life_server.clock})  # type: ignore[attr-defined]
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=60,
            stateful_step_count=50,
            deadline=None,
            derandomize=False,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_a_clock_that_is_set_by_two_hours_opens_no_list_of_a_dead_worker(life_server: RedisServer) -> None:
    """Its fence had a TTL of two hours: a late watch moved a job into a list without a lease."""
    life = type("LifeHere", (Life,), {"server": life_server, "clock": life_server.clock})()  # type: ignore[attr-defined]
    life.clock.set(-3600.0)
    dead, reaper = life.workers[0], life.workers[1]
    life.watch(dead)
    life.expire(dead)
    life.give_up_watches(dead)
    life.reap(reaper)

    life.clock.set(3600.0)
    push(life.client, "default", payload := life._job())
    life.heal()

    assert life.client.lrange("queue:default", 0, -1) == [payload]
    assert not census.inflight(life.client)
    life.teardown()
