"""Recovery, scheduler and heartbeat on a real Redis."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
import redis

from bridge import errors
from bridge.redis import scripts
from bridge.sidekiq.fetch.queues import QueueSet
from bridge.sidekiq.outcome.decision import GiveBack
from bridge.sidekiq.outcome.dialect import MetricsFamily
from bridge.sidekiq.payload.timestamps import Timestamps
from bridge.sidekiq.process.heartbeat import Heartbeat
from bridge.sidekiq.process.metrics import JobMetrics
from bridge.sidekiq.process.rows import ProcessInfo
from bridge.sidekiq.schedule.scheduler import BATCH, Scheduler
from bridge.sidekiq.store.settlement import Settled
from bridge.sidekiq.store.store import RedisStore
from tests.integration.worker import Worker, job, next_first, push
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_for

Maker = Callable[..., Worker]


def died(worker: Worker) -> str:
    """Its lease has run out."""
    worker.client.zadd("bridge:lease", {worker.identity: 1})
    return worker.identity


# -- recovery


def test_the_living_take_what_the_dead_held_in_its_order(make_worker: Maker) -> None:
    dead, living = make_worker(), make_worker()
    jobs = [job(number=n) for n in range(4)]
    push(dead.client, "default", *jobs)
    dead.take()
    died(dead)
    for _ in range(2):
        living.reaper.round()
        assert next_first(living.client) == []
        living.now += 5
    living.reaper.round()
    assert next_first(living.client) == jobs
    assert not living.client.exists(dead.inflight_key)
    assert living.client.zscore("bridge:lease", dead.identity) is None


def test_the_first_worker_back_after_an_outage_declares_nobody_dead(make_worker: Maker) -> None:
    """Every lease has run out by then, and the others are alive."""
    slow, first = make_worker(), make_worker()
    push(slow.client, "default", job())
    (unit,) = slow.take()
    died(slow)
    first.lease.register()
    first.reaper.round()
    assert next_first(first.client) == []
    slow.lease.renew()
    first.now += 20
    first.lease.renew()
    first.reaper.round()
    slow.settle(unit)
    assert first.client.get("stat:processed") == b"1"


def test_an_outage_shorter_than_a_lease_makes_nobody_take_the_jobs_of_the_living(
    own_server: RedisServer, make_worker: Maker
) -> None:
    """The lease that was renewed first had run out, the other had not: its holder took the jobs at once."""
    slow, first = (make_worker(own_server.port, timeout_seconds=0.1) for _ in range(2))
    push(slow.client, "default", job())
    (unit,) = slow.take()
    first.lease.register()
    first.now += 14
    first.lease.renew()
    own_server.client().execute_command("CLIENT", "PAUSE", 300, "ALL")
    with pytest.raises(errors.StoreUnavailable):
        first.reaper.round()
    wait_for(lambda: own_server.client().ping(), "the end of the outage")
    died(slow)

    first.reaper.round()

    slow.lease.renew()
    slow.settle(unit)
    assert [outcome for *_, outcome in slow.outcomes] == [Settled.OK]


def test_one_worker_whose_jobs_cannot_be_read_does_not_keep_those_of_the_others(make_worker: Maker) -> None:
    """An entry of a newer release raised, and the round began again with it every second, for ever."""
    newer, dead, living = make_worker(), make_worker(), make_worker()
    living.lease.register()
    living.now += 20
    push(dead.client, "default", payload := job())
    dead.take()
    died(dead)
    newer.client.hset(newer.inflight_key, "1", b"9\ndefault\n{}")
    living.client.zadd("bridge:lease", {newer.identity: 0, dead.identity: 1})
    living.lease.renew()
    living.lease._held_since = 0.0
    living.reaper.round()
    assert next_first(living.client) == [payload]
    assert living.client.hlen(newer.inflight_key) == 1


def test_a_queue_of_a_wrong_type_does_not_keep_the_other_jobs_of_a_dead_worker(make_worker: Maker) -> None:
    dead, living = make_worker(queues=("default", "low")), make_worker()
    push(dead.client, "default", job())
    push(dead.client, "low", low := job())
    dead.take()
    dead.client.set("queue:default", "x")
    assert living.reaper.reap(died(dead)) == 1
    assert next_first(living.client, "low") == [low]
    assert living.client.zscore("bridge:lease", dead.identity) == -1.0
    dead.lease.renew()  # it lives after all: under another identity, or it would begin what others have taken
    assert living.client.zscore("bridge:lease", dead.identity) is not None
    dead.client.delete("queue:default")
    living.reaper.round()
    assert len(next_first(living.client)) == 1


def test_bytes_that_are_no_job_are_given_back_as_they_are(make_worker: Maker) -> None:
    dead, living = make_worker(), make_worker()
    dead.lease.register()
    dead.client.hset(dead.inflight_key, "1", b"1\ndefault\n\xff no json")
    living.reaper.reap(died(dead))
    assert next_first(living.client) == [b"\xff no json"]


# -- scheduler


@pytest.fixture
def scheduler(store: RedisStore) -> Scheduler:
    return Scheduler(store, lambda: Timestamps.MILLISECONDS)


def test_promotion_edits_what_sidekiq_edits_and_nothing_else(store: RedisStore, scheduler: Scheduler) -> None:
    raw = b'{ "class":"X" ,"args":[1.0,1e400,"\xff"],"jid":"a","queue":"low","retry":5,"created_at":1 }'
    store.client.zadd("schedule", {raw: 1.0})
    scheduler.round()
    (moved,) = next_first(store.client, "low")
    assert moved.startswith(raw[:-2])
    assert moved[len(raw) - 2 :].lstrip(b" ").startswith(b',"enqueued_at":')


def test_more_than_a_batch_is_promoted_without_a_pause_between(
    store: RedisStore, scheduler: Scheduler
) -> None:
    store.client.zadd("retry", {job(): 1.0 for _ in range(BATCH + 1)})
    assert scheduler.round() == 0.0
    assert scheduler.round() > 0.1
    assert store.client.llen("queue:default") == BATCH + 1


def test_entries_that_cannot_move_neither_stop_the_others_nor_make_a_hot_loop(
    store: RedisStore, scheduler: Scheduler
) -> None:
    """One due job of a broken queue stopped all of schedule; a hundred of them made the thread spin."""
    store.client.set("queue:broken", "x")
    store.client.zadd("retry", {job(queue="broken"): 1.0 for _ in range(BATCH)})
    store.client.zadd("schedule", {job(): 1.0})
    scheduler.round()
    assert store.client.llen("queue:default") == 1
    assert scheduler.round() > 0.1


def test_junk_that_is_due_is_buried_even_where_dead_is_broken_for_a_while(
    store: RedisStore, scheduler: Scheduler
) -> None:
    store.client.zadd("schedule", {b"junk": 1.0, job(): 2.0})
    store.client.set("dead", "x")
    scheduler.round()
    assert store.client.llen("queue:default") == 1
    assert store.client.zrange("schedule", 0, -1) == [b"junk"]
    store.client.delete("dead")
    scheduler.round()
    assert store.client.zrange("dead", 0, -1) == [b"junk"]


def test_the_scheduler_sleeps_until_the_next_entry_but_never_long(
    store: RedisStore, scheduler: Scheduler
) -> None:
    assert 0.7 < scheduler.round() <= 1.0
    store.client.zadd("schedule", {job(): store.client.time()[0] + 3600})
    assert 0.7 < scheduler.round() <= 1.0


def test_of_two_workers_that_wait_for_the_same_entries_the_slower_rests_longer_and_longer(
    store: RedisStore, scheduler: Scheduler
) -> None:
    """Each worker of a fleet woke for each due entry, and all but one in vain."""
    slower = Scheduler(store, lambda: Timestamps.MILLISECONDS)

    def look(promoted: int, rest: float) -> None:
        # Given two workers that know when the next entry is due
        seconds, micros = store.client.time()
        store.client.zadd("schedule", {job(): seconds + micros / 1e6 + 0.05})
        scheduler.round()
        slower.round()
        # When one of them promotes it
        wait_for(lambda: scheduler.round() is not None and scheduler.promoted == promoted, "the promotion")
        # Then the other one finds nothing, and looks later next time
        wait_for(lambda: slower.round() is not None and slower._rest == rest, "a look in vain")

    for number, rest in enumerate((0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0)):
        look(number + 1, rest)
    assert scheduler._rest == 0.0


def test_a_worker_that_rests_promotes_what_the_quicker_one_leaves(
    store: RedisStore, scheduler: Scheduler
) -> None:
    scheduler._rest = scheduler.longest_sleep_seconds
    for left in (0.5, 0.25, 0.125, 0.0625, 0.03125, 0.0):
        store.client.zadd("schedule", {job(): 1.0})
        scheduler.round()
        assert scheduler._rest == left
    assert scheduler.promoted == 6


def test_a_worker_that_rests_looks_for_entries_that_are_due_sooner(
    store: RedisStore, scheduler: Scheduler
) -> None:
    """It slept until the next known entry was due, and a second more: what came meanwhile waited 2 s."""
    # Given a worker that rests, and an entry that is due in most of a second
    scheduler._rest = longest = scheduler.longest_sleep_seconds
    seconds, micros = store.client.time()
    store.client.zadd("schedule", {job(): seconds + micros / 1e6 + 0.9 * longest})
    # Then it looks again as soon as a worker that knows of no entry
    assert scheduler.round() <= longest


# -- heartbeat


@pytest.fixture
def beating(worker: Worker) -> Heartbeat:
    def info() -> ProcessInfo:
        host, pid, nonce = worker.identity.split(":")
        return ProcessInfo(host, int(pid), nonce, 1.0, QueueSet.of([("default", 0)]), 4, "8.1.0")

    clocks = SimpleNamespace(wall=1000.0, steady=50.0)
    made: Any = Heartbeat(
        worker.client,
        worker.fetcher,
        info,
        JobMetrics(),
        lambda: MetricsFamily.BOTH,
        lambda name: made.signals.append(name),
        now=lambda: clocks.wall,
        clock=lambda: clocks.steady,
    )
    made.signals, made.clocks = [], clocks
    return made  # type: ignore[no-any-return]


def test_a_row_appears_after_half_a_second_and_goes_with_the_job(worker: Worker, beating: Any) -> None:
    push(worker.client, "default", payload := job())
    (unit,) = worker.take()
    worker.fetcher.in_flight.started(unit.delivery.token, 1000.0)
    beating.round()
    assert worker.client.hlen(f"{worker.identity}:work") == 0
    unit.began = time.monotonic() - 0.6
    beating.round()
    (row,) = worker.client.hvals(f"{worker.identity}:work")
    assert json.loads(json.loads(row)["payload"]) == json.loads(payload)
    assert worker.client.hlen(f"{worker.identity}:workers") == 1
    worker.settle(unit)
    assert worker.client.hlen(f"{worker.identity}:work") == 0


def test_the_number_of_running_jobs_changes_with_their_rows(worker: Worker, beating: Any) -> None:
    # It changed every 5 s only: the Busy page showed a job and "0 busy", or "1 busy" and no job.
    def busy() -> bytes | None:
        return worker.client.hget(worker.identity, "busy")

    beating.round()
    assert busy() == b"0"
    push(worker.client, "default", job())
    (unit,) = worker.take()
    unit.began = time.monotonic() - 0.6
    beating.round()
    assert (busy(), worker.client.hlen(f"{worker.identity}:work")) == (b"1", 1)
    worker.settle(unit)
    beating.round()
    assert (busy(), worker.client.hlen(f"{worker.identity}:work")) == (b"0", 0)
    assert 0 < worker.client.ttl(worker.identity) <= 60


def test_nothing_is_written_of_a_worker_that_is_not_registered(worker: Worker, beating: Any) -> None:
    push(worker.client, "default", job())
    (unit,) = worker.take()
    unit.began = time.monotonic() - 0.6

    beating._update_rows()

    assert not worker.client.exists(worker.identity)


def test_a_row_of_a_job_that_runs_in_python_says_so(worker: Worker, beating: Any) -> None:
    native = b'{"class":"NativeJob","jid":"n","args":[1.0],"tags":["own"],"x":1e2}'
    ruby = b'{"class":"EchoJob","jid":"r","args":[],"tags":["own"]}'
    for payload in (native, ruby):
        push(worker.client, "default", payload)
    units = worker.take()
    for unit in units:
        unit.began = time.monotonic() - 0.6
        unit.native = unit.job.native_class == "NativeJob"

    beating.round()

    rows = [json.loads(row)["payload"].encode() for row in worker.client.hvals(f"{worker.identity}:work")]
    assert sorted(rows) == sorted([native.replace(b'["own"]', b'["own","python"]'), ruby])
    assert {unit.delivery.payload for unit in units} == {native, ruby}


def test_a_beat_registers_and_one_signal_is_obeyed_at_a_time(worker: Worker, beating: Any) -> None:
    worker.client.lpush(f"{worker.identity}-signals", "TSTP", "TERM")
    beating.round()
    assert beating.signals == ["TSTP"]
    assert worker.client.smembers("processes") == {worker.identity.encode()}
    beating.hurry()
    beating.round()
    assert beating.signals == ["TSTP", "TERM"]
    beating.clear()
    assert worker.client.keys(f"{worker.identity}*") == []
    assert not worker.client.exists("processes")


def test_a_worker_shows_its_queues_as_soon_as_it_has_them(worker: Worker, beating: Any) -> None:
    # Its first beat comes before Celery's consumer has any: for five seconds the Busy page named none.
    beating.round()
    beating.info = lambda: ProcessInfo("h", 1, "n", 1.0, QueueSet.of([("late", 0)]), 4, "8.1.0")
    worker.fetcher.order.add("late")
    beating.clocks.steady += 0.5
    beating.round()
    assert json.loads(worker.client.hget("h:1:n", "info"))["queues"] == ["late"]


def test_a_new_identity_takes_the_old_one_off_the_busy_page(worker: Worker, beating: Any) -> None:
    beating.round()
    old = worker.identity
    worker.lease.register()
    worker.client.delete("bridge:lease")
    worker.lease.renew()
    beating.hurry()
    beating.round()
    assert old != worker.identity
    assert worker.client.smembers("processes") == {worker.identity.encode()}
    assert not worker.client.exists(old)


def metrics_of(worker: Worker) -> list[bytes | None]:
    return [worker.client.hget(key, "HardJob|p") for key in worker.client.scan_iter("j|*")]


@pytest.mark.parametrize("lost", ["request", "answer", "answer, twice"])
def test_metrics_are_counted_once_whatever_becomes_of_the_answer(
    worker: Worker, beating: Any, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    """A beat whose answer was lost after EXEC counted its runs twice."""
    beating.metrics.record("HardJob", 5, False)
    run = scripts.run

    def cut(client: Any, calls: Any, *way: Any) -> Any:
        if lost != "request":
            run(client, calls, *way)
        raise redis.ConnectionError("the connection was cut")

    for _ in range(2 if "twice" in lost else 1):
        with monkeypatch.context() as patch:
            patch.setattr(scripts, "run", cut)
            with pytest.raises(errors.StoreUnavailable):
                beating.round()
        beating.metrics.record("HardJob", 5, False)
    beating.round()
    beating.round()
    assert metrics_of(worker) == [b"3" if "twice" in lost else b"2"] * 3


def test_a_flush_that_redis_gets_late_counts_nothing(
    worker: Worker, beating: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TCP delivers what a closed connection had sent, after its worker has sent the same again."""
    beating.metrics.record("HardJob", 5, False)
    sent: list[Any] = []
    run = scripts.run

    def cut(client: Any, calls: Any, *way: Any) -> Any:
        sent.extend(calls)
        raise redis.ConnectionError("it lies in a buffer")

    with monkeypatch.context() as patch:
        patch.setattr(scripts, "run", cut)
        with pytest.raises(errors.StoreUnavailable):
            beating.round()
    beating.round()
    beating.metrics.record("HardJob", 5, False)
    beating.hurry()
    beating.round()
    assert run(worker.client, sent) == [0]
    assert metrics_of(worker) == [b"2"] * 3


def test_a_key_of_the_metrics_page_of_a_wrong_type_costs_only_itself(worker: Worker, beating: Any) -> None:
    """It was an error after EXEC: the flush was merged back, and all other keys counted it again."""
    beating.round()
    beating.metrics.record("HardJob", 5, False)
    minute = datetime.fromtimestamp(beating.clocks.wall, UTC)
    worker.client.set(f"j|{minute:%Y%m%d}|{minute.hour}:{minute.minute}", "x")
    for _ in range(3):
        beating.hurry()
        beating.round()
    found = [key for key in worker.client.scan_iter("j|*") if worker.client.type(key) == b"hash"]
    assert [worker.client.hget(key, "HardJob|p") for key in found] == [b"1"] * 2


@pytest.mark.parametrize("step", [-1800.0, 1800.0])
def test_a_wall_clock_that_is_set_does_not_silence_a_worker(
    worker: Worker, beating: Any, step: float
) -> None:
    """Set back by half an hour it sent no beat for half an hour: off the Busy page, deaf to its buttons."""
    beating.round()
    beating.clocks.wall += step
    beating.clocks.steady += 5
    worker.client.delete(worker.identity)
    worker.client.lpush(f"{worker.identity}-signals", "TSTP")
    beating.round()
    assert float(worker.client.hget(worker.identity, "beat") or 0) == 1000.0 + step
    assert beating.signals == ["TSTP"]


def running_for_long(worker: Worker, count: int) -> None:
    push(worker.client, "default", *(job() for _ in range(count)))
    for unit in worker.take():
        unit.began = time.monotonic() - 60


@pytest.mark.parametrize("lost", [("work",), ("work", "workers"), ("all",)])
def test_rows_that_redis_lost_come_back(worker: Worker, beating: Any, lost: tuple[str, ...]) -> None:
    """After an outage of 66 s they had run out, and only changes were written: they stayed away."""
    running_for_long(worker, 3)
    beating.round()
    for name in lost:
        worker.client.delete(*worker.client.keys("*")) if name == "all" else worker.client.delete(
            f"{worker.identity}:{name}"
        )
    beating.hurry()
    beating.round()
    beating.round()
    assert worker.client.hlen(f"{worker.identity}:work") == 3
    assert worker.client.hlen(f"{worker.identity}:workers") == 3


def test_rows_of_an_older_state_go_away(worker: Worker, beating: Any) -> None:
    """Redis was restored from an older snapshot: jobs that have ended since are shown as running."""
    running_for_long(worker, 2)
    beating.round()
    worker.client.hset(f"{worker.identity}:work", "77", "{}")
    worker.client.hset(f"{worker.identity}:workers", "77", "{}")
    beating.hurry()
    beating.round()
    beating.round()
    assert worker.client.hlen(f"{worker.identity}:work") == 2


def test_a_worker_that_was_frozen_begins_no_job_that_others_took_over(make_worker: Maker) -> None:
    """It woke up with jobs it had claimed and not begun, and ran them beside those who had taken them."""
    frozen, other = make_worker(), make_worker()
    push(frozen.client, "default", job(), job())
    first, second = frozen.take()
    assert frozen.lease.holds(first.delivery.identity)
    frozen.now += 16
    assert frozen.lease.holds(first.delivery.identity), "no worker took anything: one look at Redis says so"

    frozen.now += 16
    other.reaper.reap(died(frozen))

    assert not frozen.lease.holds(second.delivery.identity)
    assert frozen.lease.holds(frozen.identity), "it goes on under its new identity"


def test_a_recovered_job_is_known_as_one_until_it_has_been_begun(make_worker: Maker) -> None:
    """Given back for an outage it counted as any other, and was started beside its own first run."""
    dead, living = make_worker(), make_worker()
    push(dead.client, "default", job(), job())
    dead.take()
    living.reaper.reap(died(dead))
    assert living.client.scard("bridge:recovering") == 2

    units = living.take()
    assert [unit.delivery.recovered for unit in units] == [1, 1]
    assert not living.client.exists("bridge:recovering")

    living.settle(units[0], GiveBack())
    assert living.client.scard("bridge:recovering") == 1
    (again,) = living.take()
    assert again.delivery.recovered == 1
    for unit in (again, units[1]):
        living.settle(unit)
    assert not living.client.exists("bridge:recovering")


def test_a_job_whose_outcome_is_unknown_for_the_third_time_is_buried_and_counted(worker: Worker) -> None:
    push(worker.client, "default", job(jid="odd"))
    for _ in range(3):
        (unit,) = worker.take()
        worker.settle(unit, GiveBack(unknown_outcome=True))

    assert worker.take() == []
    (buried,) = worker.client.zrange("dead", 0, -1)
    assert json.loads(buried)["error_class"] == "Bridge::PoisonPill"
    assert worker.fetcher.journal.buried == 1
    assert [outcome for *_, outcome in worker.outcomes] == [Settled.OK, Settled.OK, Settled.BURIED]
    assert not worker.client.exists("bridge:recovering", "bridge:recovered:odd")
