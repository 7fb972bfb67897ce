"""Large jobs: each is moved to a list of its own, and no script makes a text of it.

The crash points and the random lives are in test_life_of_a_job and in tests/faults/test_every_crash_point.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import redis

from bridge.sidekiq.fetch.arrivals import ENTER_SECONDS
from bridge.sidekiq.fetch.large_jobs import LARGE_BYTES
from bridge.sidekiq.outcome.decision import Bury, Discard, Done, GiveBack, Interrupt, Retry
from bridge.sidekiq.store.settlement import Settled
from tests.integration.worker import ALWAYS, Worker, job, next_first, push, ready, teach
from tests.support import census
from tests.support.redis_server import RedisServer
from tests.support.redis_users import CHOSEN

Maker = Callable[..., Worker]
SLOTS = 4


@pytest.fixture
def worker(own_server: RedisServer, make_worker: Maker) -> Worker:
    return ready(make_worker(own_server.port))


@pytest.fixture
def other(own_server: RedisServer, make_worker: Maker) -> Worker:
    return ready(make_worker(own_server.port))


@pytest.fixture
def client(worker: Worker) -> redis.Redis:
    return worker.client


def large(**fields: Any) -> bytes:
    return job(args=["x" * LARGE_BYTES], **fields)


def shown(worker: Worker, queue: str = "default") -> Worker:
    """Given: a claim of this worker has brought a large job from the queue."""
    push(worker.client, queue, large())
    for unit in worker.take():
        worker.settle(unit)
    assert worker.fetcher.large.queues == {queue}
    worker.outcomes.clear()
    worker.client.delete("stat:processed")
    return worker


def held(worker: Worker, count: int = 1) -> list[Any]:
    """Given: large jobs in lists of their own."""
    push(shown(worker).client, "default", *(large() for _ in range(count)))
    units = worker.take()
    assert len(units) == count
    assert all(unit.arrived for unit in units)
    return units


def lists(client: redis.Redis) -> list[bytes]:
    return sorted(client.scan_iter("bridge:arrived:*:own*", _type="list"))


def reap(reaper: Worker, dead: Worker) -> None:
    reaper.client.zadd("bridge:lease", {dead.identity: 1 + 15 / 1024}, xx=True)
    for identity in reaper.store.expired_leases(reaper.identity, window=ALWAYS):
        reaper.reaper.reap(identity)


def test_large_jobs_are_claimed_in_their_order_each_in_a_list_of_its_own(worker: Worker) -> None:
    jobs = [large() for _ in range(SLOTS + 2)]
    push(shown(worker).client, "default", *jobs)

    units = worker.take()

    assert [unit.delivery.payload for unit in units] == jobs[:SLOTS]
    assert len(lists(worker.client)) == SLOTS
    assert worker.client.hlen(worker.inflight_key) == 0
    assert next_first(worker.client) == jobs[SLOTS:]
    census.assert_each_in_one_place(worker.client)
    assert {entry.payload for entry in worker.store.inflight(worker.identity)} == set(jobs[:SLOTS])


def test_redis_moves_large_jobs_without_a_text_of_lua(worker: Worker) -> None:
    """A claim and its settlement took 160 us of Redis for 100 KB; BRPOP takes 30."""
    push(shown(worker).client, "default", *(large() for _ in range(SLOTS)))
    teach(worker.client)
    worker.client.config_resetstat()

    units = worker.take()
    for unit in units:
        worker.fetcher.settle(unit.delivery.token, Done())
    worker.fetcher.turn(claim=False)

    stats = worker.client.info("commandstats")
    moved = {name.removeprefix("cmdstat_"): stats[name]["calls"] for name in stats}
    assert moved["sort"] == SLOTS
    assert not moved.keys() & {"rpop", "hset", "lrem", "lindex"}
    assert moved["evalsha"] == 2


def test_a_settlement_sends_nothing_of_the_job_and_leaves_no_list(worker: Worker) -> None:
    units = held(worker, SLOTS)
    for unit in units:
        worker.fetcher.settle(unit.delivery.token, Done())
    worker.fetcher.turn(claim=False)

    assert lists(worker.client) == []
    assert [outcome for *_, outcome in worker.outcomes] == [Settled.OK] * SLOTS
    assert int(worker.client.get("stat:processed") or 0) == SLOTS


def test_lists_are_used_again(worker: Worker) -> None:
    keys = [sorted(unit.arrived for unit in held(worker, SLOTS))]
    for _ in range(3):
        for unit in worker.fetcher.in_flight.held.copy().values():
            worker.fetcher.settle(unit.delivery.token, Done())
        push(worker.client, "default", *(large() for _ in range(SLOTS)))
        keys.append(sorted(unit.arrived for unit in worker.take()))
    # Those of the round before are being settled in the very round trip that claims.
    assert keys[0] == keys[2]
    assert keys[1] == keys[3]
    assert not {*keys[0]} & {*keys[1]}


@pytest.mark.parametrize("kind", [Done, Retry, Bury, Discard, Interrupt, GiveBack])
def test_a_large_job_ends_by_each_decision(worker: Worker, kind: type[Any]) -> None:
    (unit,) = held(worker)
    new = unit.job.with_fields({"retry_count": 0})
    decision: Any = {
        Done: Done(),
        Retry: Retry(5.0, new),
        Bury: Bury(new),
        Discard: Discard(),
        Interrupt: Interrupt(new),
        GiveBack: GiveBack(),
    }[kind]
    worker.settle(unit, decision)

    expected = {Retry: ["retry"], Bury: ["dead"], Interrupt: ["queue:default"], GiveBack: ["queue:default"]}
    assert [*census.assert_each_in_one_place(worker.client).values()] == expected.get(kind, [])
    assert [outcome for *_, outcome in worker.outcomes] == [Settled.OK]
    assert worker.client.hlen(worker.inflight_key) == 0
    assert lists(worker.client) == []


def test_a_large_job_that_runs_for_a_while_enters_the_hash(worker: Worker) -> None:
    clock = 0.0
    worker.fetcher.arrivals.clock = lambda: clock
    (unit,) = held(worker)
    clock = ENTER_SECONDS
    worker.fetcher.turn(claim=False)

    assert lists(worker.client) == []
    assert worker.client.hlen(worker.inflight_key) == 1
    worker.settle(unit)
    assert worker.client.hlen(worker.inflight_key) == 0
    assert [outcome for *_, outcome in worker.outcomes] == [Settled.OK]


def test_a_dead_workers_large_jobs_go_back_in_their_order(worker: Worker, other: Worker) -> None:
    units = held(worker, SLOTS)
    reap(other, worker)

    assert next_first(other.client) == [unit.delivery.payload for unit in units]
    assert lists(other.client) == []
    worker.settle(units[0])
    assert [outcome for *_, outcome in worker.outcomes] == [Settled.FENCED]
    assert worker.client.get("stat:processed") is None


def test_without_a_lease_no_large_job_is_claimed(worker: Worker) -> None:
    push(shown(worker).client, "default", payload := large())
    worker.client.zrem("bridge:lease", worker.identity)
    assert worker.take() == []
    assert next_first(worker.client) == [payload]
    assert lists(worker.client) == []


def test_a_paused_queue_keeps_its_large_jobs(worker: Worker) -> None:
    push(shown(worker).client, "default", payload := large())
    worker.client.sadd("paused", "default")
    fetched = worker.fetcher.turn()
    assert (fetched.units, fetched.paused) == ((), frozenset(["default"]))
    assert next_first(worker.client) == [payload]


def test_a_queue_before_it_goes_first(own_server: RedisServer, make_worker: Maker) -> None:
    worker = shown(ready(make_worker(own_server.port, queues=("critical", "default"))))
    push(worker.client, "default", later := large())
    push(worker.client, "critical", first := job())
    assert [unit.delivery.payload for unit in worker.take()] == []
    assert [unit.delivery.payload for unit in worker.take()] == [first, later]


def test_small_jobs_behind_large_ones_end_such_claims(worker: Worker) -> None:
    small = [job() for _ in range(2 * SLOTS)]
    push(shown(worker).client, "default", *small)
    assert [unit.delivery.payload for unit in worker.take()] == small[:SLOTS]
    assert worker.fetcher.large.queues == set()


def test_a_late_claim_takes_nothing(worker: Worker) -> None:
    """The network may deliver a claim again when its worker has given it up: its lists are strings then."""
    sent: list[Any] = []
    send = worker.store._line.send
    worker.store._line.send = lambda commands: sent.append(commands) or send(commands)  # type: ignore
    (unit,) = held(worker)
    claim = next(words for words in sent[-1] if words[0] == "EVALSHA")
    worker.fetcher.arrivals.doubt()
    worker.fetcher.turn(claim=False)
    push(worker.client, "default", payload := large())

    with pytest.raises(redis.ResponseError, match="LIST used twice"):
        worker.client.execute_command(*claim)

    assert next_first(worker.client) == [payload]
    worker.settle(unit)
    assert [outcome for *_, outcome in worker.outcomes] == [Settled.OK]


def test_a_late_settlement_finds_no_other_job_in_its_list(worker: Worker) -> None:
    """A list is used again. A settlement that comes twice must not settle the job that came after."""
    (unit,) = held(worker)
    key = unit.arrived
    sent: list[Any] = []
    send = worker.store._line.send
    worker.store._line.send = lambda commands: sent.extend(commands) or send(commands)  # type: ignore
    worker.settle(unit)
    late = next(words for words in sent if key in words)
    worker.fetcher.arrivals.doubt()  # its answer was lost: that is when a settlement comes twice
    push(worker.client, "default", large())
    (after,) = worker.take()
    assert after.arrived != key

    worker.client.execute_command(*late)

    census.assert_each_in_one_place(worker.client)
    worker.outcomes.clear()
    worker.settle(after)
    assert [outcome for *_, outcome in worker.outcomes] == [Settled.OK]


def test_a_job_whose_answer_is_lost_goes_back_to_its_queue(worker: Worker) -> None:
    push(shown(worker).client, "default", payload := large())
    send = worker.store._line.send

    def cut(commands: Any) -> Any:
        send(commands)
        raise redis.ConnectionError("cut")

    worker.store._line.send = cut  # type: ignore[method-assign]
    with pytest.raises(Exception, match="cut"):
        worker.fetcher.turn()
    worker.store._line.send = send  # type: ignore[method-assign]
    worker.fetcher.turn(claim=False)
    worker.fetcher.turn(claim=False)

    assert next_first(worker.client) == [payload]
    assert lists(worker.client) == []


def test_at_maxmemory_large_jobs_are_claimed_and_settled(worker: Worker) -> None:
    push(shown(worker).client, "default", *(large() for _ in range(SLOTS)))
    worker.client.config_set("maxmemory", 1)
    try:
        units = worker.take()
        assert len(units) == SLOTS
        assert all(unit.arrived for unit in units)
        for unit in units:
            worker.settle(unit)
    finally:
        worker.client.config_set("maxmemory", 0)
    assert [outcome for *_, outcome in worker.outcomes] == [Settled.OK] * SLOTS


def test_where_sort_is_forbidden_large_jobs_are_claimed_as_all_others(
    own_server: RedisServer, make_worker: Maker
) -> None:
    worker = ready(make_worker(own_server.port))
    push(shown(worker).client, "default", payload := large())
    worker.client.acl_setuser(CHOSEN or "default", commands=["-sort"])
    try:
        assert worker.take() == []
        assert [unit.delivery.payload for unit in worker.take()] == [payload]
        push(worker.client, "default", again := large())
        assert [unit.delivery.payload for unit in worker.take()] == [again]
    finally:
        worker.client.acl_setuser(CHOSEN or "default", commands=["+sort"])


def test_bytes_of_large_jobs_stay_exact(worker: Worker) -> None:
    odd = job(args=["x" * LARGE_BYTES]).replace(b"xx", b"\x00\xff\r\n", 1)
    number = json.dumps({"jid": "n", "class": "A", "args": ["y" * LARGE_BYTES]}).encode() + b" "
    push(shown(worker).client, "default", number, odd)
    (unit,) = worker.take()
    assert unit.delivery.payload == number
    worker.settle(unit)
    assert len(worker.client.zrange("dead", 0, -1)) == 1
    assert lists(worker.client) == []


def test_a_worker_that_stops_leaves_no_list(worker: Worker) -> None:
    units = held(worker, 2)
    worker.fetcher.stop()
    worker.fetcher.detach(worker)
    for unit in units:
        worker.fetcher.settle(unit.delivery.token, GiveBack())
    assert worker.fetcher.flush(last=True)
    assert lists(worker.client) == []
    assert worker.client.scard(f"bridge:arrived:{worker.identity}") == 0
    assert next_first(worker.client) == [unit.delivery.payload for unit in units]
