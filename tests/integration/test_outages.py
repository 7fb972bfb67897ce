"""Outages as they come: a server that stops, freezes, fills up or is demoted; an answer that is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bridge import errors
from bridge.sidekiq.outcome.decision import Done, GiveBack, Retry
from bridge.sidekiq.store.claims import LeaseState
from bridge.sidekiq.store.settlement import Settled
from tests.integration.proxy import Proxy
from tests.integration.worker import Worker, job, next_first, push, teach
from tests.support import census
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_for

Maker = Callable[..., Worker]


@pytest.fixture
def proxy(own_server: RedisServer) -> Iterator[Proxy]:
    made = Proxy(own_server.port)
    yield made
    made.close()


@pytest.fixture
def behind(make_worker: Maker, proxy: Proxy) -> Worker:
    """A worker behind the proxy."""
    worker = make_worker(proxy.port)
    teach(worker.client)
    return worker


def after_outage(worker: Worker) -> list[Any]:
    """Jobs of the first turns that Redis answers."""

    def turn() -> list[Any]:
        try:
            return worker.take()
        except errors.StoreUnavailable:
            worker.fetcher.reconciler.reconnect()
            return []

    found: list[Any] = wait_for(turn, "jobs after the outage")
    return found


# -- a lost answer


class ForeignClock:
    """A store on a Redis whose clock is not this machine's."""

    NOW_MS = 4_000_000_000_000

    def __init__(self, store: Any) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def fence_claims(self, *args: Any) -> Any:
        return self.NOW_MS, self._store.fence_claims(*args)[1]


def test_jobs_whose_claim_was_answered_into_a_cut_connection_are_adopted(
    behind: Worker, proxy: Proxy, own_server: RedisServer
) -> None:
    jobs = [job(number=n) for n in range(3)]
    with own_server.client() as client:
        push(client, "default", *jobs)
    behind.lease.ensure()
    behind.use(ForeignClock(behind.store))
    proxy.lose_answer_to(b"queue:default")
    with pytest.raises(errors.StoreUnavailable):
        behind.take()
    with own_server.client() as client:
        assert len(client.hgetall(behind.inflight_key)) == 3

    units = after_outage(behind)

    assert [unit.delivery.payload for unit in units] == jobs
    assert behind.take() == []
    # By Redis' clock: one that was ahead made the sidecar refuse the job's next attempts as older deliveries.
    assert all(unit.delivery.claimed_at_ms == ForeignClock.NOW_MS for unit in units)
    for unit in units:
        behind.settle(unit)
    assert [outcome for *_, outcome in behind.outcomes] == [Settled.OK] * 3


def test_a_job_that_is_being_settled_is_not_adopted(
    behind: Worker, proxy: Proxy, own_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stood in Redis still and in this process no more, when the two were compared: it ran again."""
    with own_server.client() as client:
        push(client, "default", job(), job())
    behind.fetcher.in_flight.slots = 1
    (unit,) = behind.take()
    behind.fetcher.in_flight.slots = 2
    proxy.lose_answer_to(b"queue:default")
    with pytest.raises(errors.StoreUnavailable):
        behind.take()
    fence_claims = behind.store.fence_claims

    def settled_meanwhile(*args: Any) -> Any:
        found = fence_claims(*args)
        behind.fetcher.settle(unit.delivery.token, Done())
        return found

    monkeypatch.setattr(behind.store, "fence_claims", settled_meanwhile)
    (adopted,) = behind.take()
    assert adopted.delivery.token != unit.delivery.token


def test_an_exact_claim_whose_answer_was_lost_is_adopted(
    behind: Worker, proxy: Proxy, own_server: RedisServer
) -> None:
    native = job(**{"class": "NativeJob"})
    with own_server.client() as client:
        push(client, "default", native)
    behind.lease.ensure()
    behind.gate.open = False
    proxy.lose_answer_to(b"NativeJob")
    with pytest.raises(errors.StoreUnavailable):
        behind.take()
    assert [unit.delivery.payload for unit in after_outage(behind)] == [native]


@pytest.mark.parametrize("decision", [Done(), Retry(5.0, b"{}"), GiveBack()])
def test_a_settlement_whose_answer_was_lost_is_repeated_and_counts_once(
    behind: Worker, proxy: Proxy, own_server: RedisServer, decision: Any
) -> None:
    with own_server.client() as client:
        push(client, "default", job())
        (unit,) = behind.take()
        proxy.lose_answer_to(b"bridge:inflight")
        with pytest.raises(errors.StoreUnavailable):
            behind.settle(unit, decision)
        assert len(behind.fetcher.journal) == 1

        behind.fetcher.turn(claim=False)

        assert behind.fetcher.idle
        assert behind.outcomes[-1][2] is Settled.FENCED
        counted = int(client.get("stat:processed") or 0)
        assert counted == (0 if isinstance(decision, GiveBack) else 1)
        assert client.llen("queue:default") + client.zcard("retry") + counted in (1, 2)


# -- a server that stops


def test_settlements_wait_for_a_redis_that_is_restarted(tmp_path: Path, make_worker: Maker) -> None:
    server = RedisServer(tmp_path, "--appendonly", "yes", "--appendfsync", "always")
    try:
        worker = make_worker(server.port)
        jobs = [job() for _ in range(4)]
        push(worker.client, "default", *jobs)
        units = worker.take()
        server.stop()
        for unit in units[:3]:
            worker.fetcher.settle(unit.delivery.token, Done())
        with pytest.raises(errors.StoreUnavailable):
            worker.fetcher.turn()
        assert not worker.fetcher.flush()

        server.start()
        wait_for(worker.fetcher.flush, "the settlements to be written")

        assert [outcome for *_, outcome in worker.outcomes] == [Settled.OK] * 3
        assert worker.client.get("stat:processed") == b"3"
        assert list(worker.client.hgetall(worker.inflight_key)) == [b"4"]
        push(worker.client, "default", later := job())
        assert [unit.delivery.payload for unit in after_outage(worker)] == [later]
    finally:
        server.stop()


def test_a_killed_connection_costs_nothing(own_server: RedisServer, make_worker: Maker) -> None:
    worker = make_worker(own_server.port)
    push(worker.client, "default", job(), job())
    held = worker.take()
    with own_server.client() as admin:
        admin.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        worker.fetcher.settle(held[0].delivery.token, Done())
        push(admin, "default", later := job())
    assert [unit.delivery.payload for unit in after_outage(worker)] == [later]
    worker.fetcher.turn()
    assert [outcome for *_, outcome in worker.outcomes] == [Settled.OK]


def test_a_claim_that_a_frozen_server_carries_out_late_is_found(
    own_server: RedisServer, make_worker: Maker
) -> None:
    worker = make_worker(own_server.port, timeout_seconds=0.2)
    worker.lease.ensure()
    push(worker.client, "default", late := job())
    worker.client.execute_command("CLIENT", "PAUSE", 700, "ALL")
    with pytest.raises(errors.StoreUnavailable):
        worker.take()
    units = after_outage(worker)
    assert [unit.delivery.payload for unit in units] == [late]
    assert len(census.assert_each_in_one_place(worker.client)) == 1


# -- a server that refuses to write


def test_a_demoted_server_is_an_outage_and_no_empty_queue(
    own_server: RedisServer, make_worker: Maker
) -> None:
    """The pop's error was taken for an empty queue: the worker looked healthy and did nothing."""
    worker = make_worker(own_server.port)
    push(worker.client, "default", job(), job())
    worker.fetcher.in_flight.slots = 1
    (unit,) = worker.take()
    worker.fetcher.in_flight.slots = 2
    with own_server.client() as admin:
        admin.execute_command("REPLICAOF", "127.0.0.1", "1")

        with pytest.raises(errors.StoreUnavailable):
            worker.take()
        with pytest.raises(errors.StoreUnavailable):
            worker.lease.renew()
        worker.fetcher.settle(unit.delivery.token, Done())
        assert not worker.fetcher.flush()

        admin.execute_command("REPLICAOF", "NO", "ONE")
    assert len(after_outage(worker)) == 1
    assert [outcome for *_, outcome in worker.outcomes] == [Settled.OK]


def test_a_demoted_server_is_left_once_its_name_leads_to_another(
    own_server: RedisServer, behind: Worker, proxy: Proxy, tmp_path: Path
) -> None:
    """The connection that was kept was never idle during the outage, and so was never made anew."""
    place = tmp_path / "promoted"
    place.mkdir()
    promoted = RedisServer(place)
    try:
        assert behind.take() == []
        with own_server.client() as admin, promoted.client() as other:
            admin.execute_command("REPLICAOF", "127.0.0.1", "1")
            push(other, "default", job())
        proxy.aim_at(promoted.port)

        assert len(after_outage(behind)) == 1
    finally:
        promoted.stop()


def test_at_maxmemory_the_worker_still_drains(own_server: RedisServer, make_worker: Maker) -> None:
    """The application cannot push any more; claim, settle, renew, give back and recover go on."""
    worker, dead = make_worker(own_server.port, slots=2), make_worker(own_server.port, slots=2)
    jobs = [job(pad="x" * 2000) for _ in range(8)]
    push(worker.client, "default", *jobs)
    dead.take()
    worker.lease.ensure()
    worker.client.config_set("maxmemory-policy", "noeviction")
    worker.client.config_set("maxmemory", 1)
    try:
        with pytest.raises(errors.StoreUnavailable):
            worker.store.push("default", job())
        assert worker.store.lease(worker.identity, 15_000) is LeaseState.HELD
        for decision in (Done(), GiveBack(), Retry(5.0, job()), Done()):
            unit, *others = worker.take()
            worker.settle(unit, decision)
            worker.fetcher.in_flight.give_back_all(others)
            worker.fetcher.turn(claim=False)
        worker.reaper.reap(dead.identity)
    finally:
        worker.client.config_set("maxmemory", 0)
    assert {outcome for *_, outcome in worker.outcomes} == {Settled.OK}
    assert worker.client.get("stat:processed") == b"3"
    assert not census.inflight(worker.client)
    assert len(next_first(worker.client)) + worker.client.zcard("retry") == 6


@pytest.mark.parametrize(
    "text",
    [
        "READONLY You can't write against a read only replica.",
        "LOADING Redis is loading the dataset in memory",
        "MASTERDOWN Link with MASTER is down",
        "MISCONF Redis is configured to save RDB snapshots",
        "OOM command not allowed when used memory > 'maxmemory'.",
        "NOREPLICAS Not enough good replicas to write.",
        "BUSY Redis is busy running a script.",
        "Error running script (call to f_1): @user_script: 5: -READONLY You can't write against a replica",
    ],
)
def test_what_redis_says_while_it_cannot_serve_is_an_outage(text: str) -> None:
    """redis-py takes READONLY, OOM and others off the text, so looking at the text alone missed them."""
    from redis._parsers.base import BaseParser

    from bridge.redis.outages import is_outage

    assert is_outage(BaseParser.parse_error(text))


@pytest.mark.parametrize("text", ["WRONGTYPE Operation", "NOPERM no permission", "ERR unknown command"])
def test_a_wrong_request_is_no_outage(text: str) -> None:
    from redis._parsers.base import BaseParser

    from bridge.redis.outages import is_outage

    assert not is_outage(BaseParser.parse_error(text))


def test_jobs_that_an_older_redis_holds_for_a_living_worker_are_given_back(
    own_server: RedisServer, make_worker: Maker
) -> None:
    # They were settled, and stood in flight again after Redis had lost that, as long as their worker lived.
    worker = make_worker(own_server.port)
    push(worker.client, "default", older := job(), job())
    running = worker.take()
    before = worker.client.dump(worker.inflight_key)
    worker.settle(running[0])
    worker.client.restore(worker.inflight_key, 0, before, replace=True)
    worker.gate.most = 0

    # Given that the connection was cut by it, the worker looks, and a little later once more
    worker.fetcher.reconciler.reconnect()
    worker.fetcher.turn(claim=False)
    assert worker.client.hlen(worker.inflight_key) == 2
    worker.fetcher.in_flight.unanswered._look_at = 0.0
    worker.fetcher.turn(claim=False)
    worker.fetcher.turn(claim=False)

    assert next_first(worker.client) == [older]
    assert worker.client.hkeys(worker.inflight_key) == [str(running[1].delivery.token).encode()]
    # Its run is not counted against it, and the next delivery asks every sidecar whether it knows the job.
    assert not worker.client.exists(f"bridge:recovered:{running[0].job.jid}")
    assert worker.client.smembers("bridge:recovering") == {str(running[0].job.jid).encode()}
    worker.settle(running[1])
    assert not worker.client.exists(worker.inflight_key)
    worker.gate.most = None
    (again,) = worker.take()
    assert again.delivery.recovered == 1
