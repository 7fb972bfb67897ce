"""A chord is pushed as a whole, or not at all."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
import redis
from celery import chord, group

from bridge.celery import Bridge, make_app
from bridge.errors import PushRefused
from bridge.settings import load as load_settings
from bridge.sidekiq.store.store import RedisStore
from tests.support.redis_server import RedisServer


@pytest.fixture
def app(redis_server: RedisServer, empty_redis: redis.Redis) -> Bridge:
    return make_app(load_settings({"BRIDGE_REDIS_URL": redis_server.url_of(15)}))


def add(app: Bridge, *args: Any, **options: Any) -> Any:
    """A job that no app of this process runs. Celery gives each app the tasks of all others."""
    return app.signature("other_fleet.add", args=args, **options)


def test_a_refused_job_of_a_header_leaves_no_batch_and_no_job(app: Bridge, empty_redis: redis.Redis) -> None:
    """The first two jobs of the header ran, and their batch waited for the third one without end."""
    header = [add(app, 1, 1), add(app, 2, 2), add(app, 3, kwargs={"debug": True})]
    with pytest.raises(PushRefused):
        chord(header, add(app))()
    assert empty_redis.keys() == []


def test_a_refused_job_of_a_group_leaves_no_job(app: Bridge, empty_redis: redis.Redis) -> None:
    with pytest.raises(PushRefused):
        group([add(app, 1, 1), add(app, 3, kwargs={"debug": True})])()
    assert empty_redis.keys() == []


@pytest.mark.parametrize("last", range(1, 9))
def test_a_process_that_dies_while_it_pushes_a_chord_leaves_all_of_it_or_nothing(
    app: Bridge, empty_redis: redis.Redis, monkeypatch: pytest.MonkeyPatch, last: int
) -> None:
    """The batch waited for jobs that were nowhere, until a person forgot them one by one."""
    calls = iter(range(last))
    for name in ("push_by", "put"):
        _die_after(monkeypatch, name, calls)

    header = [add(app, i, i) for i in range(20)] + [add(app, 1, 1) | add(app, 2)]
    with suppress(KeyboardInterrupt):
        chord(header, add(app))()

    members = {key.decode(): empty_redis.hlen(key) for key in empty_redis.keys("bridge:batch:*:jobs")}
    assert (list(members.values()), empty_redis.llen("queue:default")) in (([], 0), ([21], 21))


def _die_after(monkeypatch: pytest.MonkeyPatch, name: str, calls: Any) -> None:
    """The process dies before the call that ``calls`` has no number for."""
    real = getattr(RedisStore, name)

    def call(self: RedisStore, *args: Any) -> Any:
        if next(calls, None) is None:
            raise KeyboardInterrupt
        return real(self, *args)

    monkeypatch.setattr(RedisStore, name, call)


def test_a_chord_with_chords_in_its_header_stays_open_until_all_of_it_is_pushed(
    app: Bridge, empty_redis: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    header = [chord([add(app, i, 1), add(app, i, 2)], add(app)) for i in range(3)]
    _die_after(monkeypatch, "push_by", iter(range(2)))
    with pytest.raises(KeyboardInterrupt):
        chord(header, add(app))()
    (outer,) = [
        key
        for key in empty_redis.keys("bridge:batch:*")
        if empty_redis.type(key) == b"hash" and empty_redis.hexists(key, "open")
    ]
    assert empty_redis.hlen(outer + b":jobs") == 3


def test_a_chord_of_3000_jobs_is_pushed_in_slices_and_closed(app: Bridge, empty_redis: redis.Redis) -> None:
    group_id = chord([add(app, i, i) for i in range(3000)], add(app))().parent.id
    assert empty_redis.llen("queue:default") == empty_redis.hlen(f"bridge:batch:{group_id}:jobs") == 3000
    assert not empty_redis.hexists(f"bridge:batch:{group_id}", "open")
    assert empty_redis.llen(f"bridge:batch:{group_id}:order") == 3000


def test_a_chord_inside_of_a_batch_is_pushed_with_it(app: Bridge, empty_redis: redis.Redis) -> None:
    batch = app.Batch()
    with batch.jobs():
        chord([add(app, 1, 1), add(app, 2, 2)], add(app))()
        assert empty_redis.llen("queue:default") == 0
    assert empty_redis.llen("queue:default") == 2
    assert batch.status().children == 1


def test_chords_of_other_applications_stay_celerys() -> None:
    from celery import Celery

    other = Celery("other", broker="memory://", backend="cache+memory://")

    @other.task
    def plus(x: int, y: int) -> int:
        return x + y

    assert chord([plus.s(1, 1)], plus.si(2, 2))().parent.children


def test_a_header_without_jobs_runs_its_body(app: Bridge, empty_redis: redis.Redis) -> None:
    chord(group([]), add(app))()
    assert empty_redis.llen("queue:default") == 1
