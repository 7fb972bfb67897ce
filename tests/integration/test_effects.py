"""Effects of a settlement: in the same step, only if it took effect, and never in its way."""

from __future__ import annotations

import pytest

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
from bridge.sidekiq.payload.job import SidekiqJob
from bridge.sidekiq.store import effects, lua
from bridge.sidekiq.store.claims import ClaimRequest
from bridge.sidekiq.store.effects import Effect
from bridge.sidekiq.store.settlement import Settled, Settlement
from bridge.sidekiq.store.store import RedisStore
from tests.integration.worker import job, push

ME = "host:1:000000000001"
BODIES = {
    "test_note": "redis.call('RPUSH', KEYS[1], ARGV[1], type(settled) == 'table' and #settled or settled)",
    "test_fail": "redis.call('LPUSH', KEYS[1], 'x'); redis.call('INCR', KEYS[1])",
}
NOTE = Effect("test_note", ("told",), ("a",))
DECISIONS: dict[str, tuple[Decision, bytes]] = {
    "done": (Done(), b"0"),
    "retry": (Retry(5.0, b"r"), b"1"),
    "bury": (Bury(b"d"), b"1"),
    "discard": (Discard(), b"1"),
    "interrupt": (Interrupt(b"i"), b"1"),
    "give back": (GiveBack(), b"1"),
    "outcome unknown": (GiveBack(unknown_outcome=True), b"1"),
}


@pytest.fixture(autouse=True)
def bodies(monkeypatch: pytest.MonkeyPatch) -> None:
    read = lua._read
    monkeypatch.setattr(lua, "_read", lambda name: BODIES.get(name) or read(name))
    effects._composed.cache_clear()


def holding(store: RedisStore, payload: bytes) -> bytes:
    """Given: this job is in this worker's hands, under token 1."""
    store.lease(ME, 15_000, register=True)
    push(store.client, "default", payload)
    claimed = store.exchange([], ClaimRequest(ME, ("default",), 1, 1)).claim
    assert claimed is not None
    assert claimed.jobs[0].payload == payload
    return payload


def settle(store: RedisStore, decision: Decision, payload: bytes, *found: Effect) -> Settled:
    one = Settlement(ME, 1, "default", payload, decision, "jid", effects=found)
    return store.exchange([one], None).settled[0]


@pytest.mark.parametrize("name", DECISIONS)
def test_an_effect_happens_with_each_decision_and_sees_what_was_settled(store: RedisStore, name: str) -> None:
    decision, settled = DECISIONS[name]
    payload = holding(store, job())
    # When
    assert settle(store, decision, payload, NOTE, Effect("test_note", ("told",), ("b",))) is Settled.OK
    # Then: both happened, in their order
    assert store.client.lrange("told", 0, -1) == [b"a", settled, b"b", settled]
    assert not store.client.exists(f"bridge:inflight:{ME}")


@pytest.mark.parametrize("name", DECISIONS)
def test_a_fenced_settlement_has_no_effects(store: RedisStore, name: str) -> None:
    payload = holding(store, job())
    assert settle(store, DECISIONS[name][0], payload, NOTE) is Settled.OK
    store.client.delete("told")
    # When the answer was lost and the worker settles again
    assert settle(store, DECISIONS[name][0], payload, NOTE) is Settled.FENCED
    assert not store.client.exists("told")


def test_an_effect_that_fails_does_not_undo_the_settlement_nor_the_next_effect(store: RedisStore) -> None:
    payload = holding(store, job())
    store.client.set("broken", "text")
    # When
    outcome = settle(store, Retry(5.0, b"r"), payload, Effect("test_fail", ("broken",), ()), NOTE)
    # Then
    assert outcome is Settled.OK
    assert store.client.zrange("retry", 0, -1) == [b"r"]
    assert store.client.lrange("told", 0, -1) == [b"a", b"1"]


def test_a_settlement_that_redis_refuses_has_no_effects(store: RedisStore) -> None:
    payload = holding(store, job())
    store.client.set("retry", "text")
    assert settle(store, Retry(5.0, b"r"), payload, NOTE) is Settled.FAILED
    assert not store.client.exists("told")
    assert store.client.hexists(f"bridge:inflight:{ME}", "1")


def test_notices_find_their_keys_beside_effects(store: RedisStore) -> None:
    """The scripts look for optional keys behind their own; an effect's keys must not be taken for those."""
    payload = holding(store, job())
    assert settle(store, Bury(b"d"), payload, NOTE) is Settled.OK
    assert store.client.lrange("told", 0, -1) == [b"a", b"1"]
    assert not store.client.exists("bridge:notices")


def test_an_orphan_that_is_buried_tells_its_effect_so(store: RedisStore) -> None:
    payload = holding(store, job())
    store.client.set("bridge:recovered:jid", 2)
    orphan = Settlement(
        ME, 1, "default", payload, GiveBack(unknown_outcome=True), "jid", b"poison", effects=(NOTE,)
    )
    assert store.recover(orphan, DeadLimits(), 1e9) == 2
    assert store.client.lrange("told", 0, -1) == [b"a", b"2"]


def test_sources_are_asked_with_the_name_of_the_delivery(store: RedisStore) -> None:
    asked: list[tuple[str | None, Decision, str, int]] = []

    def source(one: SidekiqJob, decision: Decision, identity: str, token: int) -> tuple[Effect, ...]:
        asked.append((one.jid, decision, identity, token))
        return (NOTE,)

    store.effects.sources.append(source)
    assert store.effects.of(SidekiqJob.parse(job(jid="j")), Done(), ME, 7) == (NOTE,)
    assert asked == [("j", Done(), ME, 7)]
