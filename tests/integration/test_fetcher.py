"""The fetcher on a real Redis: taking, settling, giving back, and the order of the queues."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import redis

from bridge import errors
from bridge.sidekiq.fetch import fetcher
from bridge.sidekiq.fetch.capsules import Capsules
from bridge.sidekiq.fetch.queues import Capsule
from bridge.sidekiq.fetch.unit_of_work import Fetched, UnitOfWork
from bridge.sidekiq.outcome.decision import Bury, Discard, Done, GiveBack, Postpone, Retry
from bridge.sidekiq.store.claims import LeaseState
from bridge.sidekiq.store.settlement import Settled
from tests.integration.worker import ALWAYS, Worker, job, next_first, push
from tests.support.redis_server import RedisServer

Maker = Callable[..., Worker]


def commands(client: redis.Redis) -> int:
    """Commands of all clients so far, those inside scripts too, without the questions of this test."""
    found = client.info("commandstats")
    return sum(value["calls"] for name, value in found.items() if name != "cmdstat_info")


def payloads(units: list[Any]) -> list[bytes]:
    return [unit.delivery.payload for unit in units]


def test_no_job_leaves_its_queue_before_a_slot_is_free(worker: Worker) -> None:
    push(worker.client, "default", *[job() for _ in range(6)])
    units = worker.take()
    assert len(units) == 4
    assert worker.take() == []
    assert len(next_first(worker.client)) == 2

    worker.settle(units[0])
    assert len(worker.take()) == 1


def test_jobs_that_are_given_back_run_next_and_in_their_order(worker: Worker) -> None:
    jobs = [job(number=n) for n in range(5)]
    push(worker.client, "default", *jobs)
    units = worker.take()
    worker.fetcher.in_flight.give_back_all(units)
    assert worker.fetcher.flush()
    assert next_first(worker.client) == jobs


NASTY = [
    b'{"jid":"a","class":"X","args":[1,1.0,1e400,123456789012345678901234567890],"retry":true}',
    '{ "class" : "Ü" , "jid":"b","args":["\\ud83d\\ude00","<&>",null] , "x": {"z":1,"a":2} }'.encode(),
    b'{"class":"X","jid":"c","args":["\xff\xfe"],"big":' + b'"' + b"x" * 100_000 + b'"}',
    b'{"class":"X","class":"Y","jid":"d","args":[],"nl":"line\\nline"}',
]


@pytest.mark.parametrize("payload", NASTY)
def test_bytes_survive_claim_give_back_and_recovery(make_worker: Maker, payload: bytes) -> None:
    worker, other = make_worker(), make_worker()
    push(worker.client, "default", payload)
    for way in (GiveBack(), GiveBack(unknown_outcome=True)):
        (unit,) = worker.take()
        assert unit.delivery.payload == payload
        worker.settle(unit, way)
        assert next_first(worker.client) == [payload]
    worker.take()
    worker.lease.leave()
    other.reaper.reap(worker.identity)
    assert next_first(worker.client) == [payload]


@pytest.mark.parametrize("payload", NASTY)
def test_a_retry_edits_its_own_fields_and_nothing_else(worker: Worker, payload: bytes) -> None:
    push(worker.client, "default", payload)
    (unit,) = worker.take()
    worker.settle(unit, Retry(5.0, unit.job.with_fields({"retry_count": 0})))
    (kept,) = worker.client.zrange("retry", 0, -1)
    assert kept.replace(b',"retry_count":0', b"") == payload


def test_queues_in_strict_order_are_emptied_one_after_the_other(make_worker: Maker) -> None:
    worker = make_worker(queues=("high", "default", "low"), slots=6)
    for queue in ("low", "default", "high"):
        push(worker.client, queue, job(), job(), job())
    assert [unit.delivery.queue for unit in worker.take()] == ["high"] * 3 + ["default"] * 3


def test_weighted_queues_share_by_their_weights_and_starve_none(make_worker: Maker) -> None:
    worker = make_worker(queues=("often", "seldom"), weights={"often": 9, "seldom": 1}, slots=300)
    for queue in ("often", "seldom"):
        push(worker.client, queue, *[job() for _ in range(300)])
    found = Counter(unit.delivery.queue for unit in worker.take())
    assert sum(found.values()) == 300
    # 30 of 300 are expected; outside of 5..80 lies less than one run in a million.
    assert 5 < found["seldom"] < 80


def test_a_slot_whose_weighted_queue_is_empty_takes_from_the_next(make_worker: Maker) -> None:
    worker = make_worker(queues=("often", "seldom"), weights={"often": 9, "seldom": 1})
    push(worker.client, "seldom", job(), job())
    assert len(worker.take()) == 2


@pytest.mark.parametrize(
    ("payload", "buried"),
    [(b"no json", b"no json"), (b"\xff", b"\xff"), (b"[1]", b"Bridge::InvalidPayload"), (b"null", b"null")],
)
def test_what_is_no_job_is_buried_and_costs_no_slot(worker: Worker, payload: bytes, buried: bytes) -> None:
    good = job()
    push(worker.client, "default", payload, good)
    assert payloads(worker.take()) == [good]
    assert worker.fetcher.in_flight.free_slots == 3
    worker.fetcher.turn(claim=False)
    (entry,) = worker.client.zrange("dead", 0, -1)
    assert buried in entry
    assert worker.client.get("stat:processed") is None


def test_nesting_beyond_every_limit_ends_no_consumer(worker: Worker) -> None:
    deep = b'{"class":"X","jid":"deep","args":' + b"[" * 200_000 + b"]" * 200_000 + b"}"
    good = job()
    push(worker.client, "default", deep, good)
    assert good in payloads(worker.take())


def test_quiet_takes_nothing_more_and_still_settles(worker: Worker) -> None:
    push(worker.client, "default", *[job() for _ in range(5)])
    units = worker.take()
    worker.fetcher.quiet()
    worker.settle(units[0])
    assert worker.take() == []
    assert worker.client.get("stat:processed") == b"1"


def test_a_unit_is_settled_by_what_was_recorded_and_only_once(worker: Worker) -> None:
    push(worker.client, "default", job())
    (unit,) = worker.take()
    worker.fetcher.in_flight.decide(unit.delivery.token, Discard())
    worker.fetcher.settle(unit.delivery.token, Done())
    worker.fetcher.settle(unit.delivery.token, Done())
    worker.fetcher.in_flight.give_back_all([unit])
    worker.fetcher.turn(claim=False)
    assert [(decision, outcome) for _, decision, outcome in worker.outcomes] == [(Discard(), Settled.OK)]


def test_many_threads_settle_while_the_consumer_takes(make_worker: Maker) -> None:
    """Each job is settled once, none is lost: the lock of the exchange, the deque and the dict together."""
    worker = make_worker(slots=8)
    jobs = [job() for _ in range(400)]
    push(worker.client, "default", *jobs)
    threads: list[threading.Thread] = []
    seen: list[bytes] = []
    while len(seen) < len(jobs):
        units = worker.take()
        seen += payloads(units)
        for unit in units:
            thread = threading.Thread(target=worker.fetcher.settle, args=(unit.delivery.token, Done()))
            threads.append(thread)
            thread.start()
    for thread in threads:
        thread.join()
    worker.fetcher.turn()
    assert sorted(seen) == sorted(jobs)
    assert worker.client.get("stat:processed") == b"400"
    assert worker.fetcher.idle


def test_without_a_consumer_what_ends_is_written_at_once(worker: Worker) -> None:
    push(worker.client, "default", job())
    (unit,) = worker.take()
    worker.fetcher.detach(worker)
    worker.fetcher.settle(unit.delivery.token, Done())
    assert worker.client.get("stat:processed") == b"1"


# -- while the sidecar is away


def test_only_admitted_jobs_leave_their_queue_while_the_gate_is_shut(make_worker: Maker) -> None:
    worker = make_worker(queues=("ruby", "native"))
    ruby, native = job(), job(**{"class": "NativeJob"})
    push(worker.client, "ruby", ruby)
    other, behind = native.replace(b"jid", b"JID"), native.replace(b"jid", b"Jid")
    push(worker.client, "native", native, other, ruby, behind)
    worker.gate.open = False

    assert payloads(worker.take()) == [native, other]
    assert next_first(worker.client, "ruby") == [ruby]
    assert next_first(worker.client, "native") == [ruby, behind]


def test_a_half_open_gate_that_is_full_is_not_asked_again_at_once(worker: Worker) -> None:
    """A turn that could take nothing said that the queues may have more, and the consumer span."""
    push(worker.client, "default", job(), job())
    worker.gate.most = 1
    assert len(worker.take()) == 1
    fetched = worker.fetcher.turn()
    assert fetched.units == ()
    assert fetched.drained


class Wrapped:
    """A worker's store, to be watched or broken in one place."""

    def __init__(self, worker: Worker) -> None:
        self._store = worker.store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


class CutAfterFirst(Wrapped):
    """A store whose link is cut at the second exact claim."""

    _claims = 0

    def claim_exact(self, *args: Any) -> Any:
        self._claims += 1
        if self._claims == 2:
            raise errors.StoreUnavailable("cut")
        return self._store.claim_exact(*args)


def test_what_was_taken_before_a_cut_is_handed_over(make_worker: Maker) -> None:
    """While the gate was shut a cut between two queues forgot the job of the first: its slot was lost."""
    worker = make_worker(queues=("one", "two"))
    first, second = job(**{"class": "NativeJob"}), job(**{"class": "NativeJob"})
    push(worker.client, "one", first)
    push(worker.client, "two", second)
    worker.gate.open = False
    worker.use(CutAfterFirst(worker))

    units = worker.take()
    assert payloads(units) == [first]
    worker.settle(units[0])
    assert payloads(worker.take()) == [second]


class Swapped(Wrapped):
    """Another client takes the job that was seen, and the next one looks like it."""

    def claim_exact(self, *args: Any) -> Any:
        _, _, queue, seen, *_ = args
        client = self._store.client
        assert client.rpop(f"queue:{queue}") == seen[0]
        client.rpush(f"queue:{queue}", seen[0].replace(b"NativeJob", b"RailsJob."))
        return self._store.claim_exact(*args)


def test_a_ruby_job_that_looks_like_the_native_one_that_was_seen_goes_back(make_worker: Maker) -> None:
    worker = make_worker(queues=("one",))
    seen = b'{"a":"' + b"x" * 1000 + b'","class":"NativeJob","b":"' + b"x" * 1000 + b'"}'
    push(worker.client, "one", seen)
    worker.gate.open = False
    worker.use(Swapped(worker))

    assert worker.take() == []
    worker.use(worker.store)
    worker.fetcher.turn()
    assert next_first(worker.client, "one") == [seen.replace(b"NativeJob", b"RailsJob.")]
    assert worker.fetcher.idle


class NoLook(Wrapped):
    """A store that counts looks at the queues, and remembers which were read."""

    looks = 0
    read: Sequence[str] = ()

    def look(self, quiet: Sequence[str], queues: Sequence[str], count: int) -> Any:
        self.looks += 1
        self.read = queues
        return self._store.look(quiet, queues, count)


def test_what_woke_the_worker_is_taken_without_another_look(make_worker: Maker) -> None:
    worker = make_worker(queues=("one",))
    payload, other = job(**{"class": "NativeJob"}), job(**{"class": "NativeJob"})
    push(worker.client, "one", payload)
    worker.gate.open = False
    store = worker.use(NoLook(worker))

    assert payloads(worker.take(("one", payload))) == [payload]
    assert store.looks == 0

    # What has been taken by another meanwhile, or may not be taken, is looked for as ever
    push(worker.client, "one", other)
    assert payloads(worker.take(("one", payload))) == [other]
    assert store.looks == 1
    ruby = job()
    push(worker.client, "one", ruby)
    assert worker.take(("one", ruby)) == []


def test_of_many_queues_only_so_many_are_looked_at_as_fill_the_slots(make_worker: Maker) -> None:
    """All of a hundred queues were read for twenty slots each, at every turn: 880 us a job."""
    names = tuple(f"queue{number}" for number in range(30))
    worker = make_worker(queues=names)
    slots = worker.fetcher.in_flight.free_slots
    jobs = [job(**{"class": "NativeJob"}) for _ in range(slots + 1)]
    push(worker.client, "queue1", *jobs)
    push(worker.client, "queue29", last := job(**{"class": "NativeJob"}))
    worker.gate.open = False
    store = worker.use(NoLook(worker))

    first = worker.take()
    assert payloads(first) == jobs[:slots]
    assert store.looks == 1
    for unit in first:
        worker.settle(unit)
    assert payloads(worker.take()) == [jobs[slots], last]


@pytest.fixture
def native_only(own_server: RedisServer, make_worker: Maker) -> Worker:
    """While the gate is shut, alone on its Redis; it has seen that its thirty queues are empty."""
    worker = make_worker(own_server.port, queues=tuple(f"queue{number}" for number in range(30)))
    worker.gate.open = False
    assert worker.take() == []
    return worker


def native(**fields: Any) -> bytes:
    return job(**{"class": "NativeJob", **fields})


def test_queues_that_were_empty_cost_one_command_together(native_only: Worker) -> None:
    before = commands(native_only.client)
    fetched = native_only.fetcher.turn()

    assert fetched == Fetched(drained=True, claimed=True)
    assert commands(native_only.client) - before == 1


def test_a_job_in_an_earlier_queue_runs_next_though_that_was_empty_at_the_last_look(
    native_only: Worker,
) -> None:
    slots = native_only.fetcher.in_flight.free_slots
    push(native_only.client, "queue20", *(late := [native() for _ in range(2 * slots)]))
    assert payloads(native_only.take()) == late[:slots]
    push(native_only.client, "queue7", *(early := [native() for _ in range(slots - 1)]))

    for unit in native_only.fetcher.in_flight.held.copy().values():
        native_only.settle(unit)
    assert payloads(native_only.take()) == [*early, late[slots]]


def test_of_a_queue_that_had_enough_and_all_before_it_is_asked_and_no_further(native_only: Worker) -> None:
    for name in ("queue8", "queue9", "queue10"):
        push(native_only.client, name, *[native() for _ in range(20)])
    units = native_only.take()
    store = native_only.use(NoLook(native_only))

    for unit in units:
        native_only.settle(unit)
    assert {unit.delivery.queue for unit in native_only.take()} == {"queue8"}
    assert store.looks == 1
    assert store.read == ["queue8"]


def test_what_woke_the_worker_is_read_with_the_question_for_all_before_it(native_only: Worker) -> None:
    push(native_only.client, "queue3", payload := native())
    store = native_only.use(NoLook(native_only))

    assert payloads(native_only.take(("queue3", payload))) == [payload]
    assert store.looks == 1
    assert store.read == ["queue3"]


def test_a_queue_of_a_wrong_type_hides_no_other_and_is_not_asked_for_twice(native_only: Worker) -> None:
    native_only.client.set("queue:queue5", "of another program")
    push(native_only.client, "queue20", payload := native())

    assert payloads(native_only.take()) == [payload]
    native_only.take()
    before = commands(native_only.client)
    assert native_only.take() == []
    assert commands(native_only.client) - before == 2, "one for the wrong one, one for all others"


def test_a_ruby_job_that_waits_costs_one_more_command_and_its_queue_is_not_watched(
    native_only: Worker,
) -> None:
    push(native_only.client, "queue5", job())
    native_only.take()
    before = commands(native_only.client)

    fetched = native_only.fetcher.turn()
    assert fetched == Fetched(drained=True, paused=frozenset({"queue5"}), claimed=True)
    assert commands(native_only.client) - before == 2


def test_a_paused_queue_with_native_jobs_is_not_watched_while_the_gate_is_shut(native_only: Worker) -> None:
    """Its watch answered at once: the worker woke, looked and was refused forty times a second."""
    push(native_only.client, "queue5", native())
    native_only.client.sadd("paused", "queue5")

    assert native_only.fetcher.turn() == Fetched(drained=True, paused=frozenset({"queue5"}), claimed=True)
    native_only.client.delete("paused")
    assert len(native_only.take()) == 1


def test_what_was_read_to_be_admitted_is_used_once(make_worker: Maker) -> None:
    """A task that changed its arguments in place got them changed when the same job came again."""
    worker = make_worker(queues=("one",))
    payload = job(**{"class": "NativeJob", "args": [[1]]})
    push(worker.client, "one", payload)
    worker.gate.open = False
    [unit] = worker.take()
    unit.job.args[0].append("changed")
    worker.fetcher.in_flight.give_back_all([unit])
    worker.fetcher.flush()

    [again] = worker.take()
    assert again.job.args == [[1]]
    worker.fetcher.in_flight.give_back_all([again])
    worker.fetcher.flush()
    worker.gate.open = True
    [last] = worker.take()
    assert last.job.args == [[1]]
    assert not worker.fetcher.in_flight.reader.known


def test_what_woke_the_worker_does_not_overtake_an_earlier_queue(make_worker: Maker) -> None:
    worker = make_worker(queues=("one", "two"))
    first, second = job(**{"class": "NativeJob"}), job(**{"class": "NativeJob"})
    push(worker.client, "one", first)
    push(worker.client, "two", second)
    worker.gate.open = False
    assert payloads(worker.take(("two", second))) == [first, second]


class Interrupted:
    """A store in whose exchange a signal arrives: the handler lets go of what it can, on the same thread."""

    def __init__(self, worker: Worker) -> None:
        self._worker, self._store = worker, worker.store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def exchange(self, *args: Any) -> Any:
        assert not self._worker.fetcher.flush()
        return self._store.exchange(*args)


@pytest.mark.timeout(20)
def test_a_signal_that_cancels_the_consumer_within_an_exchange_does_not_hang_the_worker(
    worker: Worker,
) -> None:
    # SIGQUIT in the middle of a claim: Celery cancelled the consumer in the handler, which waited for itself.
    push(worker.client, "default", job())
    worker.use(Interrupted(worker))

    (unit,) = worker.take()

    worker.use(worker.store)
    worker.settle(unit)
    assert worker.fetcher.idle


# -- the lease


def test_a_worker_whose_lease_was_taken_goes_on_under_a_new_identity(make_worker: Maker) -> None:
    worker, other = make_worker(), make_worker()
    push(worker.client, "default", *[job() for _ in range(6)])
    held = worker.take()
    old = worker.identity
    worker.client.zadd("bridge:lease", {old: 1})
    other.store.expired_leases(other.identity, window=ALWAYS)
    other.reaper.reap(old)

    worker.settle(held[0])
    assert worker.outcomes[-1][2] is Settled.FENCED
    worker.take()
    taken = worker.take()

    assert worker.identity != old
    assert [unit.delivery.identity for unit in taken] == [worker.identity]
    assert worker.client.get("stat:processed") is None


def test_two_threads_that_lose_the_same_lease_replace_it_once(worker: Worker) -> None:
    """Each took a new identity, and the first one's lease stayed behind until it ran out."""
    worker.lease.ensure()
    lost = worker.identity
    worker.client.delete("bridge:lease")
    worker.lease.renew()
    replaced = worker.identity
    worker.lease.lost(LeaseState.FENCED, lost)
    assert worker.identity == replaced
    assert worker.client.zrange("bridge:lease", 0, -1) == [replaced.encode()]


def test_tokens_are_never_used_again_under_a_new_identity(worker: Worker) -> None:
    push(worker.client, "default", job(), job())
    worker.fetcher.in_flight.slots = 1
    (first,) = worker.take()
    worker.client.delete("bridge:lease")
    worker.settle(first)
    worker.take()
    (second,) = worker.take()
    assert second.delivery.token > first.delivery.token


# -- settlements that Redis refuses


def test_a_refused_settlement_is_repeated_until_it_is_written(worker: Worker) -> None:
    push(worker.client, "default", job())
    (unit,) = worker.take()
    worker.client.set("retry", "x")
    worker.settle(unit, Retry(1.0, b"{}"))
    for _ in range(3):
        worker.fetcher.turn()
        assert len(worker.fetcher.journal) == 1
    worker.client.delete("retry")
    worker.fetcher.turn()
    assert worker.client.zcard("retry") == 1
    assert [outcome for *_, outcome in worker.outcomes] == [Settled.OK]


def test_decisions_that_cannot_be_written_do_not_pile_up_for_ever(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetcher, "MOST_UNSETTLED", 10)
    worker.client.set("dead", "x")
    push(worker.client, "default", *[job() for _ in range(50)])
    for _ in range(10):
        for unit in worker.take():
            worker.settle(unit, Bury(b"{}"))
    assert 10 < len(worker.fetcher.journal) < 20
    assert worker.client.llen("queue:default") > 30


def test_a_fault_between_deciding_and_writing_forgets_no_decision(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    push(worker.client, "default", job())
    (unit,) = worker.take()
    with monkeypatch.context() as patch:
        patch.setattr(worker.store, "exchange", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            worker.settle(unit)
    worker.fetcher.turn()
    assert worker.client.get("stat:processed") == b"1"


# -- all of Redis is gone


def test_flushall_while_working_costs_what_was_in_redis_and_nothing_else(
    worker: Worker, empty_redis: redis.Redis
) -> None:
    push(worker.client, "default", job(), job())
    held = worker.take()
    empty_redis.flushdb()
    for unit in held:
        worker.settle(unit)
    assert [outcome for *_, outcome in worker.outcomes] == [Settled.FENCED] * 2
    push(worker.client, "default", after := job())
    worker.take()
    assert payloads(worker.take()) == [after]


def test_a_worker_that_ends_gives_back_in_the_order_of_its_claims(worker: Worker) -> None:
    """Interrupted jobs went back in the order in which they ended, so the last claimed could run first."""
    first, second, third = job(), job(), job()
    push(worker.client, "default", first, second, third)
    units = worker.take()
    assert payloads(units) == [first, second, third]
    worker.fetcher.stop()

    for index in (1, 0, 2):
        worker.fetcher.settle(units[index].delivery.token, GiveBack())

    worker.fetcher.flush()
    assert worker.fetcher.idle
    assert next_first(worker.client) == [first, second, third]


def test_a_job_that_was_recovered_says_so_in_its_next_delivery(worker: Worker) -> None:
    """By that the sidecar joins a run that goes on, or answers from its record, and runs nothing again."""
    payload = job()
    push(worker.client, "default", payload)
    (first,) = worker.take()
    assert first.delivery.recovered == 0

    worker.fetcher.settle(first.delivery.token, GiveBack(unknown_outcome=True))
    worker.fetcher.flush()

    (again,) = worker.take()
    assert (again.delivery.payload, again.delivery.recovered) == (payload, 1)


def test_a_native_job_that_was_recovered_is_waited_for_no_more_once_it_is_taken(worker: Worker) -> None:
    """Taken while the sidecar was away it stood in the set for 72 hours, and each claim asked twice."""
    payload = job(**{"class": "NativeJob"})
    push(worker.client, "default", payload)
    (first,) = worker.take()
    worker.settle(first, GiveBack(unknown_outcome=True))
    assert worker.client.scard("bridge:recovering") == 1
    worker.gate.open = False

    (again,) = worker.take()

    assert again.delivery.recovered == 1
    assert not worker.client.exists("bridge:recovering")


def test_a_claim_for_thousands_of_slots_loses_no_job(make_worker: Maker) -> None:
    worker = make_worker(slots=5000)
    push(worker.client, "default", *[job() for _ in range(20)])
    worker.client.lpush("queue:default", *[job() for _ in range(4500)])

    held = sum(len(worker.take()) for _ in range(5))

    assert held == 4520
    assert worker.client.hlen(f"bridge:inflight:{worker.fetcher.lease.identity}") == 4520


def test_a_claim_that_is_refused_leaves_what_was_settled_beside_it_settled(worker: Worker) -> None:
    # It was settled again, and taken for fenced.
    push(worker.client, "default", job())
    (unit,) = worker.take()
    worker.client.rename("bridge:lease", "kept")
    worker.client.set("bridge:lease", "of a wrong type")
    worker.fetcher.settle(unit.delivery.token, Done())

    with pytest.raises(errors.StoreError, match="WRONGTYPE"):
        worker.take()

    worker.client.rename("kept", "bridge:lease")
    worker.take()
    assert [outcome for *_, outcome in worker.outcomes] == [Settled.OK]


# -- capsules


def capsule(concurrency: int, *queues: str) -> Capsules:
    return Capsules([Capsule("serial", frozenset(queues), concurrency)])


def queues_of(units: Sequence[UnitOfWork]) -> Counter[str]:
    return Counter(unit.delivery.queue for unit in units)


def test_a_capsule_runs_no_more_jobs_at_once_than_it_declares(make_worker: Maker) -> None:
    """The worker warned that it did not keep a capsule's limit, and ran as many as it had slots."""
    worker = make_worker(queues=("serial", "default"), slots=6)
    worker.fetcher.rooms.add(capsule(2, "serial"))
    push(worker.client, "serial", *[job() for _ in range(10)])
    push(worker.client, "default", *[job() for _ in range(10)])

    units = worker.take()
    assert queues_of(units) == {"serial": 2, "default": 4}

    by_queue = {unit.delivery.queue: unit for unit in units}
    worker.settle(by_queue["default"])
    assert queues_of(worker.take()) == {"default": 1}
    worker.settle(by_queue["serial"])
    assert queues_of(worker.take()) == {"serial": 1}


def test_a_capsule_of_a_weighted_queue_is_kept_in_each_claim(make_worker: Maker) -> None:
    worker = make_worker(queues=("serial", "default"), weights={"serial": 5, "default": 1}, slots=6)
    worker.fetcher.rooms.add(capsule(2, "serial"))
    push(worker.client, "serial", *[job() for _ in range(50)])

    for _ in range(20):
        units = worker.take()
        assert queues_of(units) == {"serial": 2}
        for unit in units:
            worker.settle(unit)


def test_a_full_capsule_is_not_asked_for_jobs(own_server: RedisServer, make_worker: Maker) -> None:
    worker = make_worker(own_server.port)
    worker.fetcher.rooms.add(capsule(1, "default"))
    push(worker.client, "default", job(), job())
    (unit,) = worker.take()

    before = commands(worker.client)
    fetched = worker.fetcher.turn()
    assert fetched.paused == {"default"}
    assert fetched.drained
    assert commands(worker.client) == before

    worker.settle(unit)
    assert worker.fetcher.rooms.freed
    assert len(worker.take()) == 1


def test_a_capsule_is_kept_while_no_sidecar_answers(worker: Worker) -> None:
    worker.gate.open = False
    worker.fetcher.rooms.add(capsule(1, "default"))
    push(worker.client, "default", *[job(**{"class": "NativeJob"}) for _ in range(3)])

    assert len(worker.take()) == 1
    assert worker.take() == []


# -- expiry


def test_an_expired_job_is_not_run_and_counts_as_processed(worker: Worker) -> None:
    """The bridge ran it, hours after the moment until which it made sense."""
    expired, lasting = job(expiry=1.5), job(expiry=4e9)
    push(worker.client, "default", expired, lasting)

    units = worker.take()
    worker.fetcher.turn(claim=False)

    assert payloads(units) == [lasting]
    assert [outcome for _, _, outcome in worker.outcomes] == [Settled.OK]
    assert worker.client.get("stat:processed") == b"1"
    assert worker.client.get("stat:failed") is None
    assert [worker.client.zcard(name) for name in ("retry", "dead", "schedule")] == [0, 0, 0]
    assert worker.client.hlen(worker.inflight_key) == 1


def test_an_expired_large_payload_with_malformed_arguments_is_buried_and_not_dropped(worker: Worker) -> None:
    # A claim does not read the arguments of a large Ruby job, so bytes that are not a job could expire: the
    # worker dropped them and counted them as processed, and buried a small payload of this kind.
    objects = b",".join([b'{"id":1}'] * 300)
    malformed = (
        b'{"queue":"default","class":"HardJob","args":[' + objects + b',{"id":01}],"jid":"a","expiry":1.5}'
    )
    push(worker.client, "default", malformed)

    assert worker.take() == []
    worker.fetcher.turn(claim=False)

    assert worker.client.zrange("dead", 0, -1) == [malformed]
    assert worker.client.get("stat:processed") is None


def test_a_queue_of_expired_jobs_is_emptied_without_a_slot(worker: Worker) -> None:
    push(worker.client, "default", *[job(expires_in=1, enqueued_at=1.5) for _ in range(50)])
    for _ in range(14):
        assert worker.take() == []
    worker.fetcher.turn(claim=False)
    assert worker.client.llen("queue:default") == 0
    assert worker.client.get("stat:processed") == b"50"


# -- postponed


def test_a_postponed_job_goes_behind_its_queue_or_into_schedule_and_counts_nothing(worker: Worker) -> None:
    first, second, third, waiting = job(), job(), job(), job()
    push(worker.client, "default", first, second, third)
    units = worker.take()
    push(worker.client, "default", waiting)

    worker.settle(units[0], Postpone())
    worker.settle(units[1], Postpone(queue="low"))
    worker.settle(units[2], Postpone(at=5e9, payload=b"{}"))

    assert next_first(worker.client) == [waiting, first]
    assert next_first(worker.client, "low") == [second]
    assert worker.client.zrange("schedule", 0, -1, withscores=True) == [(b"{}", 5e9)]
    assert worker.client.get("stat:processed") is None
    assert worker.client.hlen(worker.inflight_key) == 0
