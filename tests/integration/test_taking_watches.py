"""Watches that take: Redis moves a pushed job to one worker, which wakes with the job in its hands.

The crash points and the random lives are in test_life_of_a_job and in tests/faults/test_every_crash_point.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from bridge.sidekiq.api.processes import Processes
from bridge.sidekiq.fetch.arrivals import ENTER_SECONDS
from bridge.sidekiq.fetch.native_queues import ENOUGH
from bridge.sidekiq.fetch.take import Take
from bridge.sidekiq.outcome.decision import Bury, Discard, Done, GiveBack, Interrupt, Retry
from bridge.sidekiq.store import lua
from bridge.sidekiq.store.leases import LeaseTable
from bridge.sidekiq.store.settlement import Settled
from tests.integration.proxy import Proxy
from tests.integration.worker import ALWAYS, Worker, job, next_first, push, ready, serve, teach
from tests.support import census
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_for

Maker = Callable[..., Worker]


@pytest.fixture
def client(own_server: RedisServer, make_worker: Maker) -> redis.Redis:
    return make_worker(own_server.port).client


@pytest.fixture
def worker(own_server: RedisServer, make_worker: Maker) -> Worker:
    return ready(make_worker(own_server.port))


@pytest.fixture
def other(own_server: RedisServer, make_worker: Maker) -> Worker:
    return ready(make_worker(own_server.port))


@pytest.fixture
def proxy(own_server: RedisServer) -> Iterator[Proxy]:
    made = Proxy(own_server.port)
    yield made
    made.close()


def armed(worker: Worker, queue: str = "default", seconds: float = 5.0) -> Take:
    """A watch that Redis has."""
    take = worker.fetcher.arrivals.open(worker.store.client, queue)
    assert take is not None
    worker.fetcher.arrivals.number(take)
    assert take.arm(seconds)
    wait_for(lambda: blocked(worker.client) > 0, "Redis to have the watch")
    return take


def blocked(client: redis.Redis) -> int:
    return int(client.info("clients")["blocked_clients"])


def answer(take: Take) -> bytes | None:
    found: list[bytes | None] = []
    while not found:
        found = take.answered()
    return found[0]


def taken(worker: Worker, take: Take) -> list[Any]:
    payload = answer(take)
    assert payload is not None
    return worker.arrive(take, payload)


def reap(reaper: Worker, dead: Worker) -> None:
    reaper.client.zadd("bridge:lease", {dead.identity: 1 + 15 / 1024}, xx=True)
    for identity in reaper.store.expired_leases(reaper.identity, window=ALWAYS):
        reaper.reaper.reap(identity)


def places(client: redis.Redis) -> list[str]:
    return list(census.assert_each_in_one_place(client).values())


# -- one push, one worker


def test_one_push_wakes_one_of_many_workers_and_the_job_is_its_own(
    own_server: RedisServer, make_worker: Maker, client: redis.Redis
) -> None:
    """Each push answered every idle worker: 39 commands a job with twelve of them."""
    workers = [ready(make_worker(own_server.port)) for _ in range(4)]
    takes = [armed(worker) for worker in workers]
    wait_for(lambda: blocked(client) == 4, "all watches")
    client.config_resetstat()

    push(client, "default", payload := job())

    assert answer(takes[0]) == payload
    assert blocked(client) == 3
    assert client.lrange(takes[0].home.key, 0, -1) == [payload]
    (unit,) = workers[0].arrive(takes[0], payload)
    workers[0].settle(unit)
    stats = client.info("commandstats")
    calls = {name.removeprefix("cmdstat_"): row["calls"] for name, row in stats.items()}
    # One script call: it takes the job out of its list and counts it. The first of a day sets a time limit.
    assert {name: calls.get(name, 0) for name in ("lrem", "incrby", "expire", "hdel", "hset", "rpop")} == {
        "lrem": 1,
        "incrby": 2,
        "expire": 1,
        "hdel": 0,
        "hset": 0,
        "rpop": 0,
    }
    assert client.get("stat:processed") == b"1"
    assert places(client) == []


def test_a_job_is_settled_from_the_list_by_each_decision(worker: Worker, client: redis.Redis) -> None:
    payload = job()
    ends = {
        Done(): [],
        Retry(9.0, payload): ["retry"],
        Bury(payload): ["dead"],
        Discard(): [],
        GiveBack(): ["queue:default"],
        GiveBack(unknown_outcome=True): ["queue:default"],
        Interrupt(payload): ["queue:default"],
    }
    for decision, expected in ends.items():
        push(client, "default", payload)
        take = worker.open_watch()
        (unit,) = worker.arrive(take, serve(client, take) or b"")
        worker.settle(unit, decision)
        assert places(client) == expected, decision
        worker.settle(unit, decision)
        client.delete("queue:default", "retry", "dead")
    assert {outcome for *_, outcome in worker.outcomes} == {Settled.OK}
    processed, failed = client.mget("stat:processed", "stat:failed")
    assert (int(processed), int(failed)) == (5, 4)


def test_a_job_enters_the_hash_and_is_settled_in_one_step_where_redis_has_forgotten_the_scripts(
    worker: Worker, client: redis.Redis
) -> None:
    """Two calls were repeated one by one: the settlement found no job, and then the job entered the hash."""
    push(client, "default", payload := job())
    take = worker.open_watch()
    (unit,) = worker.arrive(take, serve(client, take) or b"")
    client.script_flush()
    client.script_load(lua.load("settle_to_set").text)

    worker.settle(unit, Retry(9.0, payload))

    assert [outcome for *_, outcome in worker.outcomes] == [Settled.OK]
    assert places(client) == ["retry"]


def test_a_job_that_a_thread_lets_go_while_its_list_is_fenced_is_settled(
    worker: Worker, client: redis.Redis
) -> None:
    """For a moment neither the slots nor the journal have it."""
    push(client, "default", job())
    take = worker.open_watch()
    (unit,) = worker.arrive(take, serve(client, take) or b"")
    assert worker.fetcher.in_flight.release(unit.delivery.token) is unit
    worker.fetcher.arrivals.close(take)
    worker.fetcher.turn(claim=False)

    worker.fetcher.journal.add(unit, Done())
    worker.fetcher.turn(claim=False)

    assert [outcome for *_, outcome in worker.outcomes] == [Settled.OK]
    assert places(client) == []


def test_a_job_that_runs_for_a_while_enters_the_hash(worker: Worker, client: redis.Redis) -> None:
    push(client, "default", job())
    take = worker.open_watch()
    (unit,) = worker.arrive(take, serve(client, take) or b"")
    arrivals = worker.fetcher.arrivals
    assert 0 < (arrivals.enter_in_seconds or 0) <= ENTER_SECONDS

    wait_for(lambda: arrivals.is_due, "the time to enter it")
    worker.fetcher.turn(claim=False)

    assert client.hkeys(worker.inflight_key) == [str(unit.delivery.token).encode()]
    assert census.arrived(client) == {}
    assert arrivals.enter_in_seconds is None
    worker.settle(unit)
    assert client.get("stat:processed") == b"1"


def test_what_is_no_job_is_buried_from_the_list(worker: Worker, client: redis.Redis) -> None:
    push(client, "default", b"{no json")
    take = worker.open_watch()
    assert worker.arrive(take, serve(client, take) or b"") == []
    worker.fetcher.turn(claim=False)
    assert client.zcard("dead") == 1
    assert census.arrived(client) == {}


def test_a_run_that_the_busy_page_has_shown_leaves_no_row(worker: Worker, client: redis.Redis) -> None:
    push(client, "default", job())
    take = worker.open_watch()
    (unit,) = worker.arrive(take, serve(client, take) or b"")
    client.hset(f"{worker.identity}:work", unit.delivery.token, "row")
    assert unit.began is not None
    unit.began -= 1.0
    worker.settle(unit)
    assert not client.exists(f"{worker.identity}:work")
    assert places(client) == []


def test_a_job_that_waits_for_its_time_is_in_the_hash_whose_tokens_the_mark_names(
    worker: Worker, other: Worker, client: redis.Redis
) -> None:
    """Set aside by a rate limit: a crash of its worker counts towards no poison pill."""
    push(client, "default", payload := job(jid="aside"))
    take = worker.open_watch()
    (unit,) = worker.arrive(take, serve(client, take) or b"")
    worker.fetcher.in_flight.aside.add(unit.delivery)
    assert client.hkeys(worker.inflight_key) == [str(unit.delivery.token).encode()]

    reap(other, worker)

    assert next_first(client) == [payload]
    assert not client.exists("bridge:recovered:aside")


# -- slots


def test_a_watch_that_takes_beyond_the_slots_gives_its_job_back(worker: Worker, client: redis.Redis) -> None:
    take = worker.open_watch()
    push(client, "default", *(job() for _ in range(4)))
    assert len(worker.take()) == 4
    push(client, "default", last := job())

    assert worker.arrive(take, serve(client, take) or b"") == []
    worker.fetcher.turn(claim=False)

    assert next_first(client) == [last]
    assert places(client).count("queue:default") == 1


# -- frozen workers, lost and late commands


def test_a_frozen_worker_whose_watch_is_served_loses_the_job_to_its_reaper_and_begins_nothing(
    worker: Worker, other: Worker, client: redis.Redis
) -> None:
    take = armed(worker)
    push(client, "default", payload := job())
    reap(other, worker)
    assert next_first(client) == [payload]

    # It wakes up, and reads the answer that waited for it.
    old = worker.identity
    worker.now += 100.0
    (unit,) = worker.arrive(take, answer(take) or b"")
    assert not worker.lease.holds(unit.delivery.identity)
    worker.settle(unit)

    assert worker.identity != old
    assert [outcome for *_, outcome in worker.outcomes] == [Settled.FENCED]
    assert next_first(client) == [payload]
    assert client.get("stat:processed") is None


def test_the_watch_of_a_dead_machine_takes_nothing_once_its_worker_was_reaped(
    worker: Worker, other: Worker, client: redis.Redis
) -> None:
    """Redis does not know that the machine is gone, and serves its watch."""
    take = armed(worker)
    reap(other, worker)

    push(client, "default", payload := job())

    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        answer(take)
    assert next_first(client) == [payload]


def test_a_job_that_ends_its_worker_at_once_is_buried_the_third_time(
    own_server: RedisServer, make_worker: Maker, other: Worker, client: redis.Redis
) -> None:
    """It began while it was in the list: a crash there counts as any other."""
    push(client, "default", job(jid="deadly"))
    for _ in range(3):
        victim = ready(make_worker(own_server.port))
        take = victim.open_watch()
        assert victim.arrive(take, serve(client, take) or b"")
        reap(other, victim)
    assert places(client) == ["dead"]


def test_a_watch_that_is_late_on_the_wire_takes_nothing(
    own_server: RedisServer, make_worker: Maker, proxy: Proxy, client: redis.Redis
) -> None:
    behind = ready(make_worker(proxy.port))
    teach(behind.client)
    take = behind.fetcher.arrivals.open(behind.store.client, "default")
    assert take is not None
    proxy.hold(b"BLMOVE")
    take.arm(5.0)
    with pytest.raises((redis.RedisError, OSError)):
        answer(take)
    behind.fetcher.arrivals.close(take)
    take.close()
    behind.fetcher.turn(claim=False)
    push(client, "default", payload := job())

    addresses = proxy.deliver()
    wait_for(lambda: not addresses & {row["addr"] for row in client.client_list()}, "the late command")

    assert next_first(client) == [payload]
    assert census.arrived(client) == {}


@pytest.mark.parametrize("is_read", [True, False], ids=["read", "unread"])
def test_jobs_go_back_in_the_order_in_which_redis_gave_them_to_watches_and_claims(
    worker: Worker, client: redis.Redis, *, is_read: bool
) -> None:
    """A watch's job got its number when it was read, after a claim had taken the jobs behind it."""
    # Given a job on its way from a watch, while a claim takes the jobs behind it
    take = armed(worker)
    push(client, "default", *(jobs := [job() for _ in range(4)]))
    assert [unit.delivery.payload for unit in worker.take()] == jobs[1:]
    if is_read:
        assert [unit.delivery.payload for unit in taken(worker, take)] == jobs[:1]

    # When the worker stops
    worker.fetcher.stop()
    worker.fetcher.in_flight.give_back_all(list(worker.fetcher.in_flight.held.values()))
    assert worker.fetcher.flush(last=True)
    assert worker.fetcher.flush(last=True)

    # Then they are where they were
    assert next_first(client) == jobs


def test_jobs_of_claims_and_watches_that_go_back_in_one_exchange_keep_their_order(
    worker: Worker, client: redis.Redis
) -> None:
    """Those that were still in their lists went back after all others, and so before them."""
    push(client, "default", *(jobs := [job(), job()]))
    units = worker.take()
    take = armed(worker)
    push(client, "default", last := job())
    units += taken(worker, take)

    worker.fetcher.in_flight.give_back_all(units)
    worker.fetcher.turn(claim=False)

    assert next_first(client) == [*jobs, last]


def test_a_watch_of_a_stopping_worker_takes_none_of_the_jobs_that_it_gives_back(
    worker: Worker, client: redis.Redis
) -> None:
    """It took the first that went back, which then went back once more, and ran before all others."""
    push(client, "default", *(jobs := [job() for _ in range(3)]))
    worker.take()
    take = armed(worker)

    worker.fetcher.stop()
    worker.fetcher.in_flight.give_back_all(list(worker.fetcher.in_flight.held.values()))
    assert not worker.fetcher.flush()
    worker.fetcher.arrivals.close(take, ended=take.end())

    assert worker.fetcher.flush()
    assert next_first(client) == jobs


def test_a_job_whose_answer_is_lost_goes_back_to_its_queue(
    own_server: RedisServer, make_worker: Maker, proxy: Proxy, client: redis.Redis
) -> None:
    behind = ready(make_worker(proxy.port))
    teach(behind.client)
    take = behind.fetcher.arrivals.open(behind.store.client, "default")
    assert take is not None
    push(client, "default", payload := job())
    proxy.lose_answer_to(b"BLMOVE")
    take.arm(5.0)
    with pytest.raises((redis.RedisError, OSError)):
        answer(take)
    wait_for(lambda: client.exists(take.home.key), "Redis to have moved the job")

    behind.fetcher.arrivals.close(take)
    behind.fetcher.turn(claim=False)

    assert next_first(client) == [payload]
    assert census.arrived(client) == {}
    assert not client.exists(behind.inflight_key)


def test_jobs_of_a_list_survive_a_cut_connection_and_are_settled_once(
    own_server: RedisServer, make_worker: Maker, proxy: Proxy, client: redis.Redis
) -> None:
    behind = ready(make_worker(proxy.port))
    teach(behind.client)
    push(client, "default", job(), job())
    take = behind.open_watch()
    first, second = (behind.arrive(take, serve(client, take) or b"")[0] for _ in range(2))
    proxy.lose_answer_to(b"stat:processed")
    behind.fetcher.settle(first.delivery.token, Done())
    assert not behind.fetcher.flush()

    behind.settle(second)

    assert client.get("stat:processed") == b"2"
    assert places(client) == []


def test_a_job_that_redis_has_again_after_a_restore_is_given_back(
    worker: Worker, client: redis.Redis
) -> None:
    """The list came back with an older state of Redis, and its job was settled since."""
    push(client, "default", payload := job(jid="restored"))
    take = worker.open_watch()
    worker.settle(*worker.arrive(take, serve(client, take) or b""))
    client.lpush(take.home.key, payload)

    worker.fetcher.arrivals.close(take)
    worker.fetcher.turn(claim=False)

    assert next_first(client) == [payload]
    assert client.smembers("bridge:recovering") == {b"restored"}


def test_a_closed_list_that_redis_has_again_after_a_restore_gives_its_job_back(
    worker: Worker, client: redis.Redis
) -> None:
    """Its worker knew open lists only: the job stayed in the closed one for as long as the worker lived."""
    push(client, "default", payload := job(jid="restored"))
    take = worker.open_watch()
    units = worker.arrive(take, serve(client, take) or b"")
    snapshot = {key: client.dump(key) for key in client.scan_iter()}
    worker.fetcher.arrivals.close(take, ended=True)
    worker.fetcher.in_flight.give_back_all(units)
    worker.fetcher.turn(claim=False)
    assert next_first(client) == [payload]

    client.flushall()
    for key, value in snapshot.items():
        client.restore(key, 0, value)
    worker.fetcher.arrivals.doubt()  # an exchange was cut
    worker.fetcher.turn(claim=False)

    assert next_first(client) == [payload]
    assert census.arrived(client) == {}


# -- pause, quiet, orphans


def test_a_queue_that_is_paused_under_a_watch_keeps_its_jobs(worker: Worker, client: redis.Redis) -> None:
    take = armed(worker)
    client.sadd("paused", "default")
    push(client, "default", payload := job())

    assert taken(worker, take) == []
    worker.fetcher.turn(claim=False)

    assert next_first(client) == [payload]
    assert not take.arm(1.0)
    client.srem("paused", "default")
    wait_for(lambda: take.answered() == [] and take.is_marked, "word of the change")
    assert take.arm(5.0)
    assert answer(take) == payload


def test_another_queue_that_is_paused_keeps_no_job(worker: Worker, client: redis.Redis) -> None:
    take = armed(worker)
    client.sadd("paused", "other")
    push(client, "default", job())
    assert len(taken(worker, take)) == 1


def test_what_arrives_while_a_worker_becomes_quiet_goes_back(worker: Worker, client: redis.Redis) -> None:
    take = armed(worker)
    worker.fetcher.quiet()
    push(client, "default", first := job())
    wait_for(lambda: client.exists(take.home.key), "the job to arrive")

    assert worker.fetcher.flush(last=True)

    assert next_first(client) == [first]
    push(client, "default", job())
    assert client.llen("queue:default") == 2
    worker.lease.leave()
    assert not client.exists("bridge:lease", f"bridge:arrived:{worker.identity}")


def test_a_watch_that_redis_has_ended_leaves_no_key(worker: Worker, client: redis.Redis) -> None:
    take = armed(worker)
    assert take.end()
    worker.fetcher.arrivals.close(take, ended=True)
    worker.fetcher.turn(claim=False)
    assert list(client.scan_iter("bridge:arrived:*")) == []


def test_a_job_that_comes_while_a_watch_ends_goes_back(worker: Worker, client: redis.Redis) -> None:
    take = armed(worker)
    push(client, "default", payload := job())
    assert take.end()
    worker.fetcher.arrivals.close(take, ended=True)
    worker.fetcher.turn(claim=False)
    assert next_first(client) == [payload]
    assert list(client.scan_iter("bridge:arrived:*")) == []


def test_an_orphaned_job_that_reaches_a_watch_says_so_in_its_delivery(
    worker: Worker, other: Worker, client: redis.Redis
) -> None:
    """Its first run may go on in a sidecar. The watch was armed before the job was given back."""
    push(client, "default", job(jid="orphan"))
    other.take()
    take = armed(worker)
    reap(worker, other)

    (unit,) = taken(worker, take)

    assert unit.delivery.recovered == 1


# -- Ruby jobs while no sidecar answers


def test_a_ruby_job_that_reaches_a_watch_while_no_sidecar_answers_goes_back(
    worker: Worker, client: redis.Redis
) -> None:
    take = armed(worker)
    worker.gate.restricts, worker.gate.open = True, False
    push(client, "default", payload := job())

    assert taken(worker, take) == []
    worker.fetcher.turn(claim=False)

    assert next_first(client) == [payload]
    assert not worker.fetcher.arrivals.may_take("default")


def test_without_a_sidecar_a_watch_takes_from_a_queue_that_has_shown_native_jobs_only(
    worker: Worker, client: redis.Redis
) -> None:
    arrivals = worker.fetcher.arrivals
    worker.gate.restricts, worker.gate.open = True, False
    for _ in range(ENOUGH):
        assert not arrivals.may_take("default")
        push(client, "default", job(**{"class": "NativeJob"}))
        for unit in worker.take():
            worker.settle(unit)
    assert arrivals.may_take("default")

    push(client, "default", ruby := job())
    assert worker.take() == []

    assert not arrivals.may_take("default")
    assert next_first(client) == [ruby]


# -- what is left behind


def test_a_list_that_no_set_names_is_found_by_the_next_worker_that_starts(
    own_server: RedisServer, make_worker: Maker, worker: Worker, client: redis.Redis
) -> None:
    """Redis lost the lease and the set (an eviction, a deletion by hand), and its worker is dead."""
    push(client, "default", payload := job())
    take = worker.open_watch()
    serve(client, take)
    client.delete("bridge:lease", f"bridge:arrived:{worker.identity}")

    found_by(ready(make_worker(own_server.port)))

    assert next_first(client) == [payload]
    assert places(client) == ["queue:default"]


def test_a_dead_workers_list_is_found_where_redis_has_lost_its_name(
    worker: Worker, other: Worker, client: redis.Redis
) -> None:
    push(client, "default", payload := job())
    serve(client, worker.open_watch())
    client.delete(f"bridge:arrived:{worker.identity}")
    reap(other, worker)
    assert next_first(client) == [payload]
    assert places(client) == ["queue:default"]


def test_a_dead_workers_list_is_found_where_redis_has_lost_its_name_and_knows_another(
    worker: Worker, other: Worker, client: redis.Redis
) -> None:
    """Redis was emptied while watches waited. The worker announced one more, and the reaper saw only that."""
    push(client, "default", payload := job())
    first = worker.open_watch()
    client.delete(f"bridge:arrived:{worker.identity}")
    worker.open_watch()
    serve(client, first)
    reap(other, worker)
    assert next_first(client) == [payload]


def test_a_reaper_searches_all_keys_only_where_redis_has_lost_names_of_lists(
    own_server: RedisServer, make_worker: Maker, other: Worker, client: redis.Redis
) -> None:
    """Each dead worker cost a look at the name of every key of its Redis."""
    jobs = []
    for loses in (False, True):
        dead = ready(make_worker(own_server.port))
        push(client, "default", payload := job())
        jobs.append(payload)
        serve(client, first := dead.open_watch())
        if loses:
            client.srem(f"bridge:arrived:{dead.identity}", first.home.watch)
        dead.open_watch("other")
        client.config_resetstat()

        reap(other, dead)

        assert ("cmdstat_scan" in client.info("commandstats")) is loses
        assert sorted(next_first(client)) == sorted(jobs)
        assert not client.exists(f"bridge:arrived:{dead.identity}")
        assert not client.exists(f"bridge:arrived:{dead.identity}:0:")  # the mark of lost names has no key


def test_a_list_is_found_where_a_search_has_named_another_one_of_its_worker(
    worker: Worker, other: Worker, client: redis.Redis
) -> None:
    """The reaper took the set that a search had begun for a whole one."""
    push(client, "default", *(jobs := [job(), job()]))
    first, second = worker.open_watch(), worker.open_watch()
    serve(client, first)
    client.delete(f"bridge:arrived:{worker.identity}")
    LeaseTable(client).search(0)
    serve(client, second)

    reap(other, worker)

    assert sorted(next_first(client)) == sorted(jobs)


def test_a_list_that_a_reaper_of_an_older_release_has_left_is_found(
    worker: Worker, other: Worker, client: redis.Redis
) -> None:
    """That one knows the hash only, and takes the lease away."""
    other.reaper.round()
    push(client, "default", payload := job())
    serve(client, worker.open_watch())
    client.zrem("bridge:lease", worker.identity)

    found_by(other)

    assert next_first(client) == [payload]


def test_lists_are_found_beside_a_reaper_of_an_older_release_that_is_quicker_each_time(
    worker: Worker, other: Worker, client: redis.Redis
) -> None:
    """A worker gave such a holder an ended lease. The older reaper took it away first: the jobs stayed."""
    push(client, "default", payload := job())
    serve(client, worker.open_watch())
    client.zrem("bridge:lease", worker.identity)

    found_by(other, beside=lambda: client.zremrangebyscore("bridge:lease", "-inf", 0))

    assert next_first(client) == [payload]
    assert places(client) == ["queue:default"]


def found_by(worker: Worker, beside: Callable[[], object] = lambda: None) -> None:
    """A while passes for a worker that renews and looks at the others; ``beside`` is done after each look."""
    worker.reaper.others._clock = lambda: worker.now
    for _ in range(30):
        worker.now += 1.6
        worker.reaper.round()
        beside()


def test_a_worker_whose_lease_was_lost_keeps_its_name_and_what_has_arrived(
    worker: Worker, client: redis.Redis
) -> None:
    push(client, "default", job())
    take = worker.open_watch()
    (unit,) = worker.arrive(take, serve(client, take) or b"")
    client.delete("bridge:lease")
    before = worker.identity
    worker.lease.renew()
    assert worker.identity == before
    worker.settle(unit)
    assert client.get("stat:processed") == b"1"


def test_a_keeper_that_ends_the_lease_leaves_it_to_a_reaper_while_lists_may_hold_jobs(
    worker: Worker, client: redis.Redis
) -> None:
    serve(client, worker.open_watch())
    worker.store.leave(worker.identity)
    assert client.zscore("bridge:lease", worker.identity) == 0.0


def test_an_announced_list_needs_a_lease(worker: Worker, client: redis.Redis) -> None:
    client.zadd("bridge:lease", {worker.identity: -1.0})
    assert worker.fetcher.arrivals.open(worker.client, "default") is None


def test_a_queue_with_a_colon_and_odd_characters_is_given_back_to_itself(
    worker: Worker, other: Worker, client: redis.Redis
) -> None:
    name = "7:q eu:ä|x"
    push(client, name, payload := job())
    serve(client, worker.open_watch(name))
    reap(other, worker)
    assert client.lrange(f"queue:{name}", 0, -1) == [payload]
    assert json.loads(payload)["jid"]


def test_status_and_recovery_count_what_has_arrived(worker: Worker, client: redis.Redis) -> None:
    push(client, "default", job(), job())
    take = worker.open_watch()
    serve(client, take)
    serve(client, take)
    client.delete("bridge:lease")
    (row,) = Processes(worker.store.client).leases()
    assert (row.identity, row.held) == (worker.identity, 2)
    assert len(worker.store.inflight(worker.identity)) == 2
