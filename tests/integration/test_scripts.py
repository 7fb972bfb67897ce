"""Each Lua script alone: its one move, the callers that come second, and keys of a wrong type."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis

from bridge import errors
from bridge.sidekiq.outcome.decision import (
    Bury,
    DeadLimits,
    Decision,
    Discard,
    Done,
    GiveBack,
    Interrupt,
    Retry,
)
from bridge.sidekiq.store.claims import Claimed, ClaimRequest, LeaseState
from bridge.sidekiq.store.due import DueEntry
from bridge.sidekiq.store.settlement import Settled, Settlement
from bridge.sidekiq.store.store import RedisStore
from tests.integration.worker import ALWAYS, as_bridge, connect_to, job, next_first, push

ME = "host:1:000000000001"
OTHER = "host:2:000000000002"
INFLIGHT = f"bridge:inflight:{ME}"
LIMITS = DeadLimits(max_jobs=3, timeout_seconds=1000)


def claim(store: RedisStore, want: int = 1, first: int = 1, queues: tuple[str, ...] = ("default",)) -> Any:
    result = store.exchange([], ClaimRequest(ME, queues, want, first))
    if result.refusal is not None:
        raise result.refusal
    return result.claim


def settle(store: RedisStore, decision: Decision, payload: bytes = b"{}", token: int = 1) -> Settled:
    return store.exchange([Settlement(ME, token, "default", payload, decision)], None).settled[0]


def holding(store: RedisStore, payload: bytes, token: int = 1) -> bytes:
    """Given: this job is in this worker's hands."""
    store.lease(ME, 15_000, register=True)
    push(store.client, "default", payload)
    assert claim(store, first=token).jobs[0].payload == payload
    return payload


def counters(client: redis.Redis) -> tuple[int, int]:
    processed, failed = client.mget("stat:processed", "stat:failed")
    return int(processed or 0), int(failed or 0)


def everything(client: redis.Redis) -> dict[bytes, Any]:
    """All of Redis but the lease, for "nothing was written"."""
    return {key: client.dump(key) for key in client.scan_iter() if key != b"bridge:lease"}


def at_once(call: Callable[[RedisStore], Any], port: int, callers: int = 8) -> list[Any]:
    """The same call from several connections at the same moment."""
    clients = [connect_to(port, 15) for _ in range(callers)]
    with ThreadPoolExecutor(callers) as pool:
        results = list(pool.map(call, [RedisStore(as_bridge(client)) for client in clients]))
    for client in clients:
        client.close()
    return results


# -- claim


def test_a_claim_takes_from_the_right_end_as_many_as_are_wanted(store: RedisStore) -> None:
    first, second, third = job(), job(), job()
    push(store.client, "default", first, second, third)
    store.lease(ME, 15_000, register=True)

    taken = claim(store, want=2)

    assert [found.payload for found in taken.jobs] == [first, second]
    assert next_first(store.client) == [third]
    assert store.client.hgetall(INFLIGHT) == {
        b"1": b"1\ndefault\n" + first,
        b"2": b"1\ndefault\n" + second,
    }


LARGE = "x" * 1000
LARGE_JOBS = {
    "names its queue first": '{"queue":"default","jid":"a","args":["LARGE"]}',
    "names two queues": '{"queue":"default","args":["LARGE"],"queue":"low"}',
    "names another queue first": '{"queue":"low","queue":"default","args":["LARGE"]}',
    "names another queue": '{"queue":"low","args":["LARGE"]}',
    "names its queue last": '{"args":["LARGE"],"queue":"default"}',
    "names a queue in its arguments": '{"args":[{"queue":"default"},"LARGE"]}',
    "names a queue in a text": r'{"x":"\"queue\":\"default\"","a":"LARGE"}',
    "names its queue with an escape": r'{"queue":"d\u0065fault","args":["LARGE"]}',
    "has spaces": '{ "queue" : "default","args":["LARGE"]}',
    "is not JSON": '{"queue":"default","args":["\n1\n2\nLARGE"]',
    "looks like an entry": '1\nlow\n{"queue":"default"}LARGE',
    "is anything": "LARGE",
}


@pytest.mark.parametrize("payload", LARGE_JOBS.values(), ids=LARGE_JOBS.keys())
@pytest.mark.parametrize("queue", ["default", "low", "a-b%d.c"])
def test_a_large_job_is_read_back_with_its_queue_whatever_it_says(
    store: RedisStore, payload: str, queue: str
) -> None:
    raw = payload.replace("LARGE", LARGE).encode()
    store.lease(ME, 15_000, register=True)
    push(store.client, queue, raw)

    taken = claim(store, queues=(queue,))

    assert [(found.queue, found.payload) for found in taken.jobs] == [(queue, raw)]
    assert store.inflight(ME) == [Claimed(queue, raw, 1)]


def test_a_large_job_that_names_its_queue_is_held_without_a_copy_of_it(store: RedisStore) -> None:
    raw = LARGE_JOBS["names its queue first"].replace("LARGE", LARGE).encode()
    store.lease(ME, 15_000, register=True)
    push(store.client, "default", raw)
    claim(store)
    assert store.client.hvals(INFLIGHT) == [raw]


@pytest.mark.parametrize("value", [b"2\ndefault\n{}", b'{"args":[]}', b"1\ndefault", b""])
def test_an_entry_of_another_format_is_not_read(store: RedisStore, value: bytes) -> None:
    store.client.hset(INFLIGHT, "1", value)
    with pytest.raises(errors.StoreError, match="Run the newer release"):
        store.inflight(ME)


def test_many_claims_at_once_take_each_job_once(store: RedisStore, redis_server: Any) -> None:
    payloads = [job() for _ in range(40)]
    push(store.client, "default", *payloads)

    def take(own: RedisStore) -> list[bytes]:
        identity = f"host:1:{id(own):012x}"
        own.lease(identity, 15_000, register=True)
        found = own.exchange([], ClaimRequest(identity, ("default",), 5, 1)).claim
        assert found is not None
        return [taken.payload for taken in found.jobs]

    taken = [payload for payloads in at_once(take, redis_server.port) for payload in payloads]

    assert sorted(taken) == sorted(payloads)


def test_without_a_lease_nothing_is_claimed(store: RedisStore) -> None:
    push(store.client, "default", job())
    before = everything(store.client)
    assert claim(store).lease is LeaseState.FENCED
    assert everything(store.client) == before


def test_a_lease_that_ran_out_claims_nothing_until_it_is_renewed(store: RedisStore) -> None:
    push(store.client, "default", job())
    store.client.zadd("bridge:lease", {ME: 1})
    assert claim(store).lease is LeaseState.EXPIRED
    assert store.lease(ME, 15_000) is LeaseState.HELD
    assert len(claim(store).jobs) == 1


def test_a_lease_that_is_being_reaped_can_neither_claim_nor_be_renewed(store: RedisStore) -> None:
    push(store.client, "default", job())
    store.client.zadd("bridge:lease", {ME: 1})
    assert store.expired_leases(OTHER, window=ALWAYS) == [ME]
    assert claim(store).lease is LeaseState.FENCED
    assert store.lease(ME, 15_000) is LeaseState.FENCED


def test_a_token_that_is_used_already_is_refused_before_anything_is_popped(store: RedisStore) -> None:
    held = holding(store, job(), token=2)
    push(store.client, "default", job())
    before = everything(store.client)
    with pytest.raises(errors.StoreError, match="used twice"):
        claim(store, want=3, first=1)
    assert everything(store.client) == before
    assert held in store.client.hgetall(INFLIGHT)[b"2"]


def test_a_queue_of_a_wrong_type_does_not_keep_jobs_of_the_others(store: RedisStore) -> None:
    store.lease(ME, 15_000, register=True)
    store.client.set("queue:broken", "x")
    push(store.client, "default", job())
    assert len(claim(store, queues=("broken", "default")).jobs) == 1


def test_a_paused_set_of_a_wrong_type_pauses_nothing(store: RedisStore) -> None:
    # Open-source Sidekiq never reads it; here no job at all was taken any more.
    store.lease(ME, 15_000, register=True)
    store.client.set("paused", "x")
    push(store.client, "default", job(), last := job())
    assert len(claim(store, want=1).jobs) == 1
    assert store.claim_exact(ME, 2, "default", [last]).jobs


def test_an_inflight_hash_of_a_wrong_type_pops_nothing(store: RedisStore) -> None:
    store.lease(ME, 15_000, register=True)
    store.client.set(INFLIGHT, "x")
    push(store.client, "default", job())
    with pytest.raises(errors.StoreError):
        claim(store)
    assert len(next_first(store.client)) == 1


def test_a_paused_queue_is_left_alone_and_named(store: RedisStore) -> None:
    store.lease(ME, 15_000, register=True)
    store.client.sadd("paused", "default")
    push(store.client, "default", job())
    push(store.client, "low", job())
    taken = claim(store, want=5, queues=("default", "low"))
    assert [found.queue for found in taken.jobs] == ["low"]
    assert taken.paused == {"default"}


# -- claim_exact


def test_an_exact_claim_takes_only_the_very_bytes_that_were_seen(store: RedisStore) -> None:
    store.lease(ME, 15_000, register=True)
    seen, other = job(), job()
    push(store.client, "default", seen)
    assert store.look([], ["default", "none"], 5) == (False, [[seen], []])
    assert store.claim_exact(ME, 1, "default", [other]).jobs == ()
    assert [found.payload for found in store.claim_exact(ME, 1, "default", [seen]).jobs] == [seen]
    assert store.claim_exact(ME, 2, "default", [seen]).jobs == ()
    assert store.client.hgetall(INFLIGHT) == {b"1": b"1\ndefault\n" + seen}


@pytest.mark.parametrize("size", [0, 1, 1000, 1001, 200_000])
def test_an_exact_claim_knows_jobs_of_any_size_again(store: RedisStore, size: int) -> None:
    store.lease(ME, 15_000, register=True)
    first, second = b"a" * size, b'{"queue":"default","x":"' + b"b" * size + b'"}'
    push(store.client, "default", first, second)
    found = store.claim_exact(ME, 1, "default", [first, second]).jobs
    assert found == (Claimed("default", first, 1), Claimed("default", second, 2))
    assert store.inflight(ME) == list(found)
    assert store.claim_exact(ME, 3, "default", [first]).jobs == ()


def test_an_exact_claim_names_what_it_took_where_two_large_jobs_look_alike(store: RedisStore) -> None:
    """The script compares length and ends of a large job. The bytes that count are those that Redis holds."""
    store.lease(ME, 15_000, register=True)
    seen, there = (b"a" * 1000 + middle + b"z" * 1000 for middle in (b"seen", b"here"))
    push(store.client, "default", there)
    claimed = store.claim_exact(ME, 1, "default", [seen]).jobs
    assert [found.payload for found in claimed] == [there]


def test_a_job_that_is_not_the_one_that_was_seen_stays_where_it_was(store: RedisStore) -> None:
    store.lease(ME, 15_000, register=True)
    seen, shorter, other = b"a" * 2000, b"a" * 1999, b"b" + b"a" * 1999
    for there in (shorter, other):
        push(store.client, "default", there, behind := job())
        before = everything(store.client)
        assert store.claim_exact(ME, 1, "default", [seen]).jobs == ()
        assert everything(store.client) == before
        assert next_first(store.client) == [there, behind]
        store.client.delete("queue:default")


def test_queues_that_were_empty_are_asked_all_at_once_and_no_list_cannot_be_read(store: RedisStore) -> None:
    push(store.client, "default", seen := job())
    store.client.set("queue:other", "of another program")

    assert store.look(["none", "nothing"], ["default", "other"], 5) == (False, [[seen], None])
    assert store.look(["none", "other"], [], 5) == (True, [])
    assert store.occupied(["none", "default", "other"]) == ["default", "other"]


def test_an_exact_claim_of_several_jobs_ends_at_the_first_that_is_another(store: RedisStore) -> None:
    store.lease(ME, 15_000, register=True)
    first, second, changed, behind = job(), job(), job(), job()
    push(store.client, "default", first, second, changed, behind)
    assert store.look([], ["default"], 3) == (False, [[first, second, changed]])
    claim = store.claim_exact(ME, 7, "default", [first, second, b"not these bytes", behind])
    assert [(found.token, found.payload) for found in claim.jobs] == [(7, first), (8, second)]
    assert next_first(store.client) == [changed, behind]


def test_exact_claims_at_once_take_the_job_once(store: RedisStore, redis_server: Any) -> None:
    payload = job()
    push(store.client, "default", payload)

    def take(own: RedisStore) -> int:
        identity = f"host:1:{id(own):012x}"
        own.lease(identity, 15_000, register=True)
        return len(own.claim_exact(identity, 1, "default", [payload]).jobs)

    assert sum(at_once(take, redis_server.port)) == 1


def test_an_exact_claim_respects_pause_lease_and_used_tokens(store: RedisStore) -> None:
    payload = job()
    push(store.client, "default", payload)
    assert store.claim_exact(ME, 1, "default", [payload]).lease is LeaseState.FENCED
    store.client.zadd("bridge:lease", {ME: 1})
    assert store.claim_exact(ME, 1, "default", [payload]).lease is LeaseState.EXPIRED
    store.lease(ME, 15_000, register=True)
    store.client.sadd("paused", "default")
    refused = store.claim_exact(ME, 1, "default", [payload])
    assert (refused.jobs, refused.paused) == ((), {"default"})
    store.client.delete("paused")
    store.client.hset(INFLIGHT, "1", b"1\ndefault\nheld")
    with pytest.raises(errors.StoreError, match="used twice"):
        store.claim_exact(ME, 1, "default", [payload])
    assert next_first(store.client) == [payload]


# -- settlements


def test_a_burial_without_limits_of_its_own_trims_by_those_of_the_cluster(store: RedisStore) -> None:
    """Refused and unreadable jobs trimmed by the defaults, and threw away what a larger dead set had kept."""
    roomy = RedisStore(store.client, lambda: DeadLimits(max_jobs=50_000))
    store.client.zadd("dead", {f'{{"jid":"{i}"}}': time.time() for i in range(10_005)})
    holding(store, b"{}")
    assert settle(roomy, Bury(b'{"class":"X"}', ran=False)) is Settled.OK
    assert store.client.zcard("dead") == 10_006


SETTLEMENTS = {
    "done": (Done(), (1, 0)),
    "retry": (Retry(99.5, b'{"retry_count":0}'), (1, 1)),
    "bury": (Bury(b'{"dead":1}', LIMITS), (1, 1)),
    "bury what was not run": (Bury(b'{"dead":1}', LIMITS, ran=False), (0, 0)),
    "discard": (Discard(), (1, 1)),
    "interrupt": (Interrupt(b'{"iteration":1}'), (1, 1)),
    "give back": (GiveBack(), (0, 0)),
    "give back, outcome unknown": (GiveBack(unknown_outcome=True), (0, 0)),
}


@pytest.mark.parametrize("name", SETTLEMENTS)
def test_a_settlement_takes_effect_once_and_is_fenced_ever_after(store: RedisStore, name: str) -> None:
    decision, counted = SETTLEMENTS[name]
    payload = holding(store, job())

    assert settle(store, decision, payload) is Settled.OK
    after = everything(store.client)
    assert settle(store, decision, payload) is Settled.FENCED

    assert everything(store.client) == after
    assert counters(store.client) == counted
    assert not store.client.exists(INFLIGHT)


@pytest.mark.parametrize("name", SETTLEMENTS)
def test_many_settlements_of_one_job_at_once_count_once(
    store: RedisStore, redis_server: Any, name: str
) -> None:
    decision, counted = SETTLEMENTS[name]
    payload = holding(store, job())
    outcomes = at_once(lambda own: settle(own, decision, payload), redis_server.port)
    assert outcomes.count(Settled.OK) == 1
    assert outcomes.count(Settled.FENCED) == 7
    assert counters(store.client) == counted


@pytest.mark.parametrize("name", SETTLEMENTS)
def test_a_job_that_is_not_held_is_settled_into_nothing(store: RedisStore, name: str) -> None:
    push(store.client, "default", job())
    before = everything(store.client)
    assert settle(store, SETTLEMENTS[name][0], job()) is Settled.FENCED
    assert everything(store.client) == before


@pytest.mark.parametrize(
    ("decision", "key"),
    [
        (Retry(1.0, b"{}"), "retry"),
        (Bury(b"{}"), "dead"),
        (Interrupt(b"{}"), "queue:default"),
        (GiveBack(), "queue:default"),
        (GiveBack(unknown_outcome=True), "queue:default"),
    ],
)
def test_a_target_of_a_wrong_type_leaves_the_job_in_flight(
    store: RedisStore, decision: Decision, key: str
) -> None:
    payload = holding(store, job())
    store.client.set(key, "x")
    before = everything(store.client)
    assert settle(store, decision, payload) is Settled.FAILED
    assert everything(store.client) == before

    store.client.delete(key)
    assert settle(store, decision, payload) is Settled.OK


def test_a_retry_at_no_number_does_not_lose_the_job(store: RedisStore) -> None:
    """ZADD refuses NaN, and the script had taken the job out of the hash by then: it was gone."""
    payload = holding(store, job())
    before = everything(store.client)
    assert settle(store, Retry(float("nan"), b"{}"), payload) is Settled.FAILED
    assert everything(store.client) == before


@pytest.mark.parametrize("name", [name for name, (_, counted) in SETTLEMENTS.items() if counted != (0, 0)])
def test_counters_of_a_wrong_type_do_not_undo_a_settlement(store: RedisStore, name: str) -> None:
    payload = holding(store, job())
    for key in ("stat:processed", "stat:failed"):
        store.client.rpush(key, "x")
    assert settle(store, SETTLEMENTS[name][0], payload) is Settled.OK
    assert not store.client.exists(INFLIGHT)


def test_a_settlement_removes_the_rows_of_the_busy_page(store: RedisStore) -> None:
    for token, decision in enumerate([Done(), Retry(1.0, b"{}"), GiveBack()], start=1):
        payload = holding(store, job(), token)
        for key in (f"{ME}:work", f"{ME}:workers"):
            store.client.hset(key, str(token), "{}")
        settle(store, decision, payload, token)
        assert not store.client.exists(f"{ME}:work", f"{ME}:workers")


def test_finishes_of_one_batch_are_fenced_one_by_one(store: RedisStore) -> None:
    store.lease(ME, 15_000, register=True)
    push(store.client, "default", job(), job(), job())
    claim(store, want=3)
    store.client.hdel(INFLIGHT, "2")
    done = [Settlement(ME, token, "default", b"", Done()) for token in (1, 2, 3)]
    assert store.exchange(done, None).settled == [Settled.OK, Settled.FENCED, Settled.OK]
    assert counters(store.client) == (2, 0)
    today = list(store.client.scan_iter("stat:processed:*"))
    assert [store.client.get(key) for key in today] == [b"2"]
    assert 0 < store.client.ttl(today[0]) <= 157_680_000


def test_outcomes_of_a_mixed_batch_come_in_the_order_of_the_settlements(store: RedisStore) -> None:
    store.lease(ME, 15_000, register=True)
    payloads = [job() for _ in range(4)]
    push(store.client, "default", *payloads)
    claim(store, want=4)
    store.client.hdel(INFLIGHT, "3")
    decisions = [Retry(5.0, b"r"), Done(), GiveBack(), Done()]
    settlements = [
        Settlement(ME, token, "default", payload, decision)
        for token, (payload, decision) in enumerate(zip(payloads, decisions, strict=True), start=1)
    ]
    settled = store.exchange(settlements, None).settled
    assert settled == [Settled.OK, Settled.OK, Settled.FENCED, Settled.OK]
    assert next_first(store.client) == []


def test_the_window_of_the_poison_pill_does_not_slide(store: RedisStore) -> None:
    """Three recoveries over 144 hours buried a job; the promise says 72."""
    payload = job(jid="often")
    for token in (1, 2):
        holding(store, payload, token)
        lost = Settlement(ME, token, "default", payload, GiveBack(unknown_outcome=True), "often")
        store.exchange([lost], None)
        if token == 1:
            store.client.expire("bridge:recovered:often", 100)

    assert store.client.get("bridge:recovered:often") == b"2"
    assert 0 < store.client.ttl("bridge:recovered:often") <= 100


def test_the_dead_set_is_trimmed_as_sidekiq_trims_it(store: RedisStore) -> None:
    """By age, then to one entry fewer than its limit says: Sidekiq's own off-by-one."""
    store.client.zadd("dead", {"old": 5.0})
    for token in range(1, 5):
        payload = holding(store, job(), token)
        settle(store, Bury(b"%d" % token, LIMITS), payload, token)
    assert store.client.zrange("dead", 0, -1) == [b"3", b"4"]


# -- lease, leave, expired


def test_leaving_with_jobs_in_hand_leaves_the_lease_to_a_reaper(store: RedisStore) -> None:
    payload = holding(store, job())
    assert store.leave(ME) == 1
    assert store.expired_leases(OTHER) == [ME]
    settle(store, GiveBack(), payload)
    assert store.leave(ME) == 0
    assert not store.client.exists("bridge:lease")


# A clean stop left bridge:fence:<identity> behind for a day. Without a lease no claim passes, fence or not.
def test_a_lease_that_ends_takes_its_fence_along_and_a_late_claim_takes_nothing(store: RedisStore) -> None:
    push(store.client, "default", job())
    store.lease(ME, 15_000, register=True)
    store.fence_claims(ME, 7)
    assert store.client.exists(f"bridge:fence:{ME}")
    assert store.leave(ME) == 0
    assert list(store.client.scan_iter("bridge:*")) == []
    before = everything(store.client)
    assert claim(store, first=7).lease is LeaseState.FENCED
    assert everything(store.client) == before


def test_only_ended_leases_are_named_to_a_worker_that_has_not_settled_in(store: RedisStore) -> None:
    store.client.zadd("bridge:lease", {"ended": 0, "expired": 5, ME: 5, "living": 9e15})
    assert store.expired_leases(ME) == ["ended"]
    assert sorted(store.expired_leases(ME, window=ALWAYS)) == ["ended", "expired"]
    # What a reaper has marked stays marked: another one goes on where it died.
    assert sorted(store.expired_leases(OTHER)) == ["ended", "expired"]


# -- recover


def test_a_job_is_recovered_by_one_of_many_reapers(store: RedisStore, redis_server: Any) -> None:
    payload = holding(store, job())
    settlement = Settlement(ME, 1, "default", payload, GiveBack(), "jid")
    outcomes = at_once(lambda own: own.recover(settlement, LIMITS, 10.0), redis_server.port)
    assert sorted(outcomes) == [0] * 7 + [1]
    assert next_first(store.client) == [payload]
    assert store.client.get("bridge:recovered:jid") == b"1"


def test_a_job_found_in_dead_hands_three_times_is_buried(store: RedisStore) -> None:
    payload = holding(store, job())
    settlement = Settlement(ME, 1, "default", payload, GiveBack(), "jid", b"poison")
    outcomes = []
    for _ in range(3):
        outcomes.append(store.recover(settlement, LIMITS, 10.0))
        claim(store)
    assert outcomes == [1, 1, 2]
    assert store.client.zrange("dead", 0, -1) == [b"poison"]
    assert next_first(store.client) == []
    assert counters(store.client) == (0, 0)


def test_a_job_that_must_not_be_buried_is_given_back_for_ever(store: RedisStore) -> None:
    payload = holding(store, job())
    settlement = Settlement(ME, 1, "default", payload, GiveBack(), "jid", b"")
    for _ in range(5):
        assert store.recover(settlement, LIMITS, 10.0) == 1
        claim(store)


@pytest.mark.parametrize("key", ["queue:default", "dead"])
def test_recovery_moves_nothing_where_a_target_is_of_a_wrong_type(store: RedisStore, key: str) -> None:
    payload = holding(store, job())
    store.client.set(key, "x")
    before = everything(store.client)
    with pytest.raises(errors.StoreError):
        store.recover(Settlement(ME, 1, "default", payload, GiveBack(), "jid"), LIMITS, 10.0)
    assert everything(store.client) == before


# -- due, promote, bury


def test_due_names_what_is_due_by_redis_own_clock_earliest_first(store: RedisStore) -> None:
    seconds = store.client.time()[0]
    store.client.zadd("retry", {"b": seconds - 5, "a": seconds - 9, "later": seconds + 60})
    store.client.zadd("schedule", {"c": 1.0, "soon": seconds + 30})
    due = store.due(10)
    assert (due.retry, due.schedule) == ((b"a", b"b"), (b"c",))
    assert due.next_in_seconds is not None
    assert 25 < due.next_in_seconds <= 30
    assert store.due(1).retry == (b"a",)


def test_due_says_when_nothing_waits(store: RedisStore) -> None:
    assert store.due(10).next_in_seconds is None


def test_a_due_entry_is_promoted_by_one_of_many_pollers(store: RedisStore, redis_server: Any) -> None:
    store.client.zadd("schedule", {"member": 1.0})
    moved = at_once(
        lambda own: own.promote("schedule", [DueEntry(b"member", "default", b"payload")]).moved,
        redis_server.port,
    )
    assert sum(moved) == 1
    assert next_first(store.client) == [b"payload"]
    assert store.client.smembers("queues") == {b"default"}


def test_a_queue_of_a_wrong_type_keeps_its_due_entry_where_it_is(store: RedisStore) -> None:
    store.client.zadd("schedule", {"member": 1.0, "good": 2.0})
    store.client.set("queue:broken", "x")
    moved = store.promote(
        "schedule", [DueEntry(b"member", "broken", b"p"), DueEntry(b"good", "default", b"g")]
    )
    assert moved == (1, 1)
    assert store.client.zrange("schedule", 0, -1) == [b"member"]


def test_many_due_entries_go_to_their_queues_in_their_order(store: RedisStore) -> None:
    """Also more than one call of the script moves, and beside a queue of a wrong type."""
    # Given 120 entries of 1 KB for three queues, every third for a key that is a string
    names = ["a", "b", "broken"]
    entries = [DueEntry(b"m%d" % at, names[at % 3], b"%04d" % at + b"x" * 1000) for at in range(120)]
    store.client.zadd("schedule", {entry.member: at + 1.0 for at, entry in enumerate(entries)})
    store.client.set("queue:broken", "x")
    # When a worker promotes all but the first, which another process has taken
    store.client.zrem("schedule", b"m0")
    moved = store.promote("schedule", entries)
    # Then each queue has its own, the first one to be taken first, and the rest waits
    assert moved == (79, 40)
    for name in names[:2]:
        own = [entry.payload for entry in entries[1:] if entry.queue == name]
        assert store.client.lrange(f"queue:{name}", 0, -1) == own[::-1]
    assert store.client.smembers("queues") == {b"a", b"b"}
    assert set(store.client.zrange("schedule", 0, -1)) == {e.member for e in entries if e.queue == "broken"}


def test_an_entry_that_is_no_job_is_buried_once(store: RedisStore, redis_server: Any) -> None:
    store.client.zadd("retry", {"junk": 1.0})
    buried = at_once(lambda own: own.bury_entry("retry", b"junk", b"seen", LIMITS, 2000.0), redis_server.port)
    assert sorted(buried) == [False] * 7 + [True]
    assert store.client.zrange("dead", 0, -1, withscores=True) == [(b"seen", 2000.0)]
    store.client.zadd("retry", {"junk": 1.0})
    store.client.delete("dead")
    store.client.set("dead", "x")
    with pytest.raises(errors.StoreError):
        store.bury_entry("retry", b"junk", b"seen", LIMITS, 2000.0)
    assert store.client.zcard("retry") == 1


# -- all of them


def test_every_script_comes_back_after_a_script_flush(store: RedisStore, empty_redis: redis.Redis) -> None:
    payload = holding(store, job())
    empty_redis.script_flush()
    assert settle(store, GiveBack(), payload) is Settled.OK
    empty_redis.script_flush()
    done = [Settlement(ME, 2, "default", b"", Done())]
    result = store.exchange(done, ClaimRequest(ME, ("default",), 1, 5))
    assert result.settled == [Settled.FENCED]
    assert result.claim is not None
    assert [found.payload for found in result.claim.jobs] == [payload]
    empty_redis.script_flush()
    assert store.lease(ME, 1000) is LeaseState.HELD
    empty_redis.script_flush()
    store.due(1)
    assert store.recover(Settlement(ME, 5, "default", payload, GiveBack(), "j"), LIMITS, 1.0) == 1
