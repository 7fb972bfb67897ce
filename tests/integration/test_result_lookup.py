"""A job without a result hash is found wherever it is, and also while it moves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from bridge import errors
from bridge.results.results import Results
from bridge.sidekiq.payload.tracked import Tracked
from bridge.sidekiq.store.claims import Claimed
from bridge.sidekiq.store.store import RedisStore
from tests.integration.worker import job, push

ME = "host:1:000000000001"
JID = "a" * 24
PAYLOAD = job(jid=JID, bridge_track=True)


@pytest.fixture
def results(store: RedisStore) -> Results:
    store.lease(ME, 60_000, register=True)
    return Results(Tracked(), lambda: store, 60)


def during_the_first_look(
    monkeypatch: pytest.MonkeyPatch, happens: Callable[[RedisStore], None]
) -> list[str]:
    """The queues are read, the workers' jobs are not yet: that is when it ``happens``."""
    read, looks = RedisStore.inflight, list[str]()

    def inflight(store: RedisStore, identity: str) -> list[Claimed]:
        looks.append(identity)
        if len(looks) == 1:
            happens(store)
        return read(store, identity)

    monkeypatch.setattr(RedisStore, "inflight", inflight)
    return looks


def test_a_job_that_is_given_back_while_it_is_looked_for_is_not_unknown(
    results: Results, store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``AsyncResult.state`` raised ResultUnknown: it looked once, and the wait for a result looked twice."""
    during_the_first_look(monkeypatch, lambda store: push(store.client, "default", PAYLOAD))
    assert results.read(JID) is None


def test_a_job_that_ends_while_it_is_looked_for_again_has_its_result(
    results: Results, store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = during_the_first_look(monkeypatch, lambda store: None)
    expect = results.lookup.expect

    def ends(jid: str) -> bool:
        found = expect(jid)
        if len(looks) == 2:
            results.store.note(jid, "done", {"result": b"3"})
        return found

    monkeypatch.setattr(results.lookup, "expect", ends)
    for ask in (results.read, lambda jid: results.wait(jid, 5)):
        looks.clear()
        record: Any = ask(JID)
        assert record.value == 3
        results.store.forget(JID)


def test_a_job_that_is_nowhere_is_unknown_after_two_looks(
    results: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = during_the_first_look(monkeypatch, lambda store: None)
    with pytest.raises(errors.ResultUnknown):
        results.read(JID)
    assert len(looks) == 2
