"""Promotion where the app has client middleware: take the entry, run middleware, settle.

The scheduler once ran middleware before it owned the entry. Where middleware halts while a lock is there, the
second worker met the first one's lock, heard "halted" and removed the entry. Three workers lost 60 of 300 due
jobs; a worker that was killed between middleware and move lost 50 of 50.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from bridge import errors
from bridge.redis import scripts
from bridge.sidekiq.payload.timestamps import Timestamps
from bridge.sidekiq.schedule import owned_promotion
from bridge.sidekiq.schedule.due_entry import UNCHANGED, Passed
from bridge.sidekiq.schedule.scheduler import BATCH, RETRY_REFUSED_SECONDS, Scheduler
from tests.integration.locking import Locking
from tests.integration.worker import ALWAYS, Worker, job, next_first
from tests.support import census

Maker = Callable[..., Worker]


class Ignoring:
    """Halts every job whose argument says so, and changes no other."""

    active = True

    def __call__(self, members: Sequence[bytes]) -> list[Passed]:
        halts = [json.loads(member)["args"] == ["halt"] for member in members]
        return [Passed({}, (), halted=True) if halt else UNCHANGED for halt in halts]


def scheduler(worker: Worker, middleware: Any = None, **options: Any) -> Scheduler:
    worker.lease.ensure()
    return Scheduler(
        worker.store,
        lambda: Timestamps.SECONDS,
        lease=worker.lease,
        middleware=middleware or Locking(worker.client),
        **options,
    )


def schedule(worker: Worker, count: int, **fields: Any) -> set[str]:
    entries = [job(at=1, **fields) for _ in range(count)]
    worker.client.zadd("schedule", dict.fromkeys(entries, 1.0))
    return {json.loads(entry)["jid"] for entry in entries}


def pushed(worker: Worker) -> list[dict[str, Any]]:
    return [json.loads(payload) for payload in next_first(worker.client)]


class Killed(BaseException):
    """The worker is gone."""


def kill() -> None:
    raise Killed


def test_three_workers_lose_no_due_job_to_each_others_locks(make_worker: Maker) -> None:
    workers = [make_worker() for _ in range(3)]
    jids = schedule(workers[0], 300)
    schedulers = [scheduler(worker) for worker in workers]
    begin = threading.Barrier(3)

    def promote(one: Scheduler) -> None:
        begin.wait()
        while one.store.due(1).schedule:
            one.round()

    threads = [threading.Thread(target=promote, args=(one,)) for one in schedulers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(one["jid"] for one in pushed(workers[0])) == sorted(jids)
    assert all(one["locked"] for one in pushed(workers[0]))
    assert not census.inflight(workers[0].client)


@pytest.mark.parametrize("when", ["before it runs", "after it ran"])
def test_a_worker_killed_around_its_middleware_loses_none_of_fifty(make_worker: Maker, when: str) -> None:
    dead, living = make_worker(), make_worker()
    jids = schedule(dead, 50)
    middleware = Locking(dead.client)
    if when == "after it ran":
        middleware.meanwhile = kill
    else:
        middleware.pass_one = lambda jid: kill()  # type: ignore[method-assign, assignment, return-value]
    with pytest.raises(Killed):
        scheduler(dead, middleware).round()
    assert sum(map(len, census.inflight(dead.client).values())) == 50

    # When another reaps it
    dead.client.zadd("bridge:lease", {dead.identity: 1})
    living.reaper.reap(dead.identity)

    # Then all are pushed without another run of middleware, and none counts as found in dead hands
    assert {one["jid"] for one in pushed(living)} == jids
    assert all(one["retry"] is True and "enqueued_at" in one for one in pushed(living))
    assert not living.client.keys("bridge:recovered:*")
    assert not living.client.exists("bridge:recovering", dead.inflight_key)


def test_a_halted_job_is_dropped_and_counts_nothing(worker: Worker) -> None:
    schedule(worker, 2, args=["halt"])
    going = schedule(worker, 1)
    assert scheduler(worker, Ignoring()).round() > 0
    assert {one["jid"] for one in pushed(worker)} == going
    assert not worker.client.exists("schedule", worker.inflight_key, "stat:processed", "dead")


def test_beside_a_worker_of_an_older_release_a_halted_job_is_pushed(make_worker: Maker) -> None:
    """It ran middleware before it owned the entry: its lock may be the one that halts."""
    worker = make_worker()
    (jid,) = schedule(worker, 1)
    worker.client.set(f"lock:{jid}", 1)
    own = scheduler(worker)
    worker.client.zadd("bridge:lease", {"old:1:0123456789ab": 9_999_999_999_999})
    own.round()
    assert [one["jid"] for one in pushed(worker)] == [jid]


def test_a_worker_frozen_before_its_middleware_runs_it_for_nothing_that_others_have_taken(
    make_worker: Maker,
) -> None:
    """Its lock would stay: the job has run and unlocked already."""
    frozen, other = make_worker(), make_worker()
    jids = schedule(frozen, 3)
    middleware = Locking(frozen.client)
    own = scheduler(frozen, middleware)
    take = own.owned._take  # type: ignore[union-attr]

    def take_and_freeze(*args: Any) -> list[int]:
        tokens = take(*args)
        if tokens:
            frozen.now += 60
            other.client.zadd("bridge:lease", {frozen.identity: 1})
            other.store.expired_leases(other.identity, window=ALWAYS)
            other.reaper.reap(frozen.identity)
        return tokens

    own.owned._take = take_and_freeze  # type: ignore[union-attr, method-assign]
    own.round()
    assert middleware.seen == []
    assert {one["jid"] for one in pushed(other)} == jids


def test_a_verdict_that_comes_after_the_worker_has_left_is_fenced(make_worker: Maker) -> None:
    worker = make_worker()
    jids = schedule(worker, 5)
    middleware = Locking(worker.client)
    own = scheduler(worker, middleware)
    middleware.meanwhile = own.release
    own.round()
    assert {one["jid"] for one in pushed(worker)} == jids
    assert not any("locked" in one for one in pushed(worker))
    assert worker.store.leave(worker.identity) == 0


@pytest.mark.parametrize("lost", ["request", "answer"])
@pytest.mark.parametrize("script", ["schedule_own", "settle_promoted"])
def test_a_lost_answer_neither_loses_nor_doubles_a_due_job(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, lost: str, script: str
) -> None:
    jids = schedule(worker, 10)
    own = scheduler(worker)
    run = scripts.run
    left = [1]

    def once(client: Any, calls: Any, *way: Any) -> Any:
        if calls[0].script.name == script and left[0]:
            left[0] = 0
            if lost == "answer":
                run(client, calls, *way)
            raise errors.StoreUnavailable("the connection was cut")
        return run(client, calls, *way)

    monkeypatch.setattr(scripts, "run", once)
    with pytest.raises(errors.StoreUnavailable):
        own.round()
    own.round()
    assert sorted(one["jid"] for one in pushed(worker)) == sorted(jids)
    assert not census.inflight(worker.client)


def test_a_command_that_arrives_late_takes_nothing(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A partition heals, and TCP delivers what a closed connection had sent under a forgotten token."""
    jids = schedule(worker, 3)
    monkeypatch.setattr(owned_promotion, "VALID_MS", -1)
    own = scheduler(worker)
    own.round()
    assert not census.inflight(worker.client)
    assert worker.client.zcard("schedule") == len(jids)


def test_entries_that_an_older_redis_holds_for_the_scheduler_are_pushed(worker: Worker) -> None:
    worker.lease.ensure()
    payload = job()
    worker.client.hset(worker.inflight_key, "-7", b"1\ndefault\n" + payload)
    worker.fetcher.reconciler.reconnect()
    worker.fetcher.turn()
    assert next_first(worker.client) == [payload]
    assert not worker.client.exists(worker.inflight_key)


def test_an_entry_without_a_lease_stays_in_its_set(worker: Worker) -> None:
    jids = schedule(worker, 1)
    own = scheduler(worker)
    worker.client.zadd("bridge:lease", {worker.identity: -5})
    own.round()
    assert worker.client.zcard("schedule") == 1
    own.round()  # under the identity that it took instead
    assert {one["jid"] for one in pushed(worker)} == jids


@pytest.mark.parametrize("middleware", [False, True])
def test_the_scheduler_gets_past_entries_that_cannot_be_moved(worker: Worker, middleware: bool) -> None:
    """A hundred of them at the front of the set kept every due job behind them where it was."""
    worker.client.set("queue:broken", "of another type")
    schedule(worker, 2 * BATCH + 50, queue="broken")
    later = [job(at=2) for _ in range(5)]
    worker.client.zadd("schedule", dict.fromkeys(later, 2.0))
    own = scheduler(worker, Locking(worker.client)) if middleware else scheduler(worker, Ignoring())
    if not middleware:
        own.owned = None
    for _ in range(10):
        own.round()
    assert len(pushed(worker)) == 5
    assert worker.client.zcard("schedule") == 2 * BATCH + 50

    # When the key is right again, they go within the time that is named
    worker.client.delete("queue:broken")
    own._pass_began -= RETRY_REFUSED_SECONDS
    for _ in range(10):
        own.round()
    assert worker.client.llen("queue:broken") == 2 * BATCH + 50


def test_a_queue_that_middleware_chose_and_redis_refuses_is_given_up_for_the_jobs_own(worker: Worker) -> None:
    class Moving:
        active = True

        def __call__(self, members: Sequence[bytes]) -> list[Passed]:
            return [Passed({"queue": "broken"}, ())] * len(members)

    worker.client.set("queue:broken", "of another type")
    jids = schedule(worker, 3)
    own = scheduler(worker, Moving())
    own.round()
    own.round()
    assert {one["jid"] for one in pushed(worker)} == jids


class Throttle:
    """Puts each job off once, as a throttle does: Sidekiq's client then writes it into ``schedule``."""

    active = True

    def __init__(self, at: Any) -> None:
        self.at = at

    def __call__(self, members: Sequence[bytes]) -> list[Passed]:
        return [Passed({"at": self.at, "put_off": 1}, ()) for _ in members]


def test_a_job_that_middleware_puts_off_waits_in_its_set_and_does_not_run(worker: Worker) -> None:
    """The worker pushed it at once, with its new time as one more field of the payload."""
    jids = schedule(worker, 3, enqueued_at=1.0)
    scheduler(worker, Throttle(4e9)).round()

    waiting = worker.client.zrange("schedule", 0, -1, withscores=True)
    assert {json.loads(entry)["jid"] for entry, _ in waiting} == jids
    assert {score for _, score in waiting} == {4e9}
    assert all(json.loads(entry)["put_off"] == 1 for entry, _ in waiting)
    assert not any({"at", "enqueued_at"} & json.loads(entry).keys() for entry, _ in waiting)
    assert not pushed(worker)
    assert not worker.client.exists(worker.inflight_key)
    assert not worker.client.exists("stat:processed")


@pytest.mark.parametrize("at", [None, True, "soon", "1e999", pytest.param(10**400, id="huge"), [4e9]])
def test_a_job_that_middleware_puts_off_to_no_time_is_pushed_without(worker: Worker, at: Any) -> None:
    jids = schedule(worker, 1)
    scheduler(worker, Throttle(at)).round()
    assert [one["jid"] for one in pushed(worker)] == [*jids]


class Slow:
    """Answers for one entry at a time, as the sidecar does where middleware is slow."""

    active = True

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.meanwhile: Callable[[], object] = lambda: None

    def __call__(self, members: Sequence[bytes]) -> list[Passed]:
        self.seen.append(json.loads(members[0])["jid"])
        self.meanwhile()
        return [Passed({"seen": True}, ())]


def test_slow_middleware_runs_once_for_each_and_its_jobs_go_on_one_by_one(worker: Worker) -> None:
    """After 40 s the worker pushed all of 100 jobs without it, and it ran for them later."""
    jids = schedule(worker, 5)
    slow = Slow()
    counts: list[int] = []
    slow.meanwhile = lambda: counts.append(len(pushed(worker)))
    scheduler(worker, slow).round()

    assert sorted(slow.seen) == sorted(jids)
    assert counts == [0, 1, 2, 3, 4]
    assert all(one["seen"] for one in pushed(worker))


def test_entries_that_slow_middleware_keeps_waiting_go_back_for_other_workers(
    make_worker: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owned_promotion, "HOLD_SECONDS", -1.0)
    first, second = make_worker(), make_worker()
    jids = schedule(first, 5)
    slow = Slow()
    scheduler(first, slow).round()

    assert len(pushed(first)) == 1
    assert first.client.zcard("schedule") == 4
    assert not first.client.exists(first.inflight_key)
    scheduler(second, Locking(second.client)).round()
    assert {one["jid"] for one in pushed(first)} == jids


def test_a_worker_that_ends_while_slow_middleware_runs_pushes_the_rest(worker: Worker) -> None:
    jids = schedule(worker, 5)
    slow = Slow()
    own = scheduler(worker, slow)
    slow.meanwhile = own.release
    own.round()

    assert len(slow.seen) == 1
    assert {one["jid"] for one in pushed(worker)} == jids
    assert not worker.client.exists(worker.inflight_key)
