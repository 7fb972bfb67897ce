"""Jobs that fetchers of dead Ruby processes hold: doctor names them, `bridge recover` gives them back.

The keys are those that the fetchers write: read in their sources, and in a Redis beside the real gem.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import pytest
import redis

from bridge.sidekiq.api.foreign_lists import PAGE, ForeignLists
from tests.integration.worker import job, next_first
from tests.support import redis_users
from tests.support.command import Bridge
from tests.support.diagnosis import diagnose

NONCE = "0f1e2d3c4b5a"
ROW = "rails-1:4711:ffffffffffff"


@dataclass(frozen=True)
class Fetcher:
    """Where one fetcher keeps the jobs of a process for the queue ``low:2``, and what shows that it lives."""

    key: str
    sign: str


FETCHERS = {
    "gitlab-sidekiq-fetcher": Fetcher(
        f"working:queue:low:2:rails-1:4711:{NONCE}", f"reliable-fetcher-heartbeat-rails-1-4711-{NONCE}"
    ),
    "before it had nonces": Fetcher(
        "working:queue:low:2:rails-1:4711", "reliable-fetcher-heartbeat-rails-1-4711"
    ),
    "by a row of the Busy page": Fetcher(f"working:queue:low:2:rails-1:4711:{NONCE}", ROW),
    "super_fetch": Fetcher(f"queue:sq|rails-1:4711:{NONCE}|low:2", f"rails-1:4711:{NONCE}"),
    "sidekiq-reliable-fetch": Fetcher("queue:low:2:working", ROW),
}


@pytest.fixture(params=FETCHERS)
def fetcher(request: pytest.FixtureRequest) -> Fetcher:
    return FETCHERS[request.param]


@pytest.fixture
def bridge(empty_redis: redis.Redis) -> Bridge:
    options = empty_redis.connection_pool.connection_kwargs
    return Bridge({"BRIDGE_REDIS_URL": f"redis://127.0.0.1:{options['port']}/{options['db']}"})


def take(client: redis.Redis, fetcher: Fetcher, count: int = 3) -> list[bytes]:
    """Given: so the fetchers take a job, one after the other. Returns the jobs as they were taken."""
    client.rpush("queue:low:2", *(job() for _ in range(count)))
    for _ in range(count):
        client.rpoplpush("queue:low:2", fetcher.key)
    return client.lrange(fetcher.key, 0, -1)[::-1]


def live(client: redis.Redis, fetcher: Fetcher) -> None:
    """Its process lives."""
    if fetcher.sign == ROW:
        client.sadd("processes", ROW)
        client.hset(ROW, mapping={"beat": time.time(), "info": '{"queues":["low:2"],"hostname":"rails-1"}'})
    elif fetcher.key.startswith("queue:sq"):
        client.hset(fetcher.sign, "beat", time.time())
    else:
        client.set(fetcher.sign, 1, ex=60)


def test_the_jobs_of_a_dead_process_go_back_and_run_in_their_order(
    bridge: Bridge, empty_redis: redis.Redis, fetcher: Fetcher
) -> None:
    taken = take(empty_redis, fetcher)
    waiting = job()
    empty_redis.lpush("queue:low:2", waiting)

    assert diagnose(bridge)["foreign-orphans"].cure.startswith("bridge recover")
    (dry,) = bridge("recover", "--dry-run", "--json").well().json
    assert (dry["key"], dry["queue"], dry["held"], dry["over"]) == (fetcher.key, "low:2", 3, True)
    assert empty_redis.llen(fetcher.key) == 3
    answer = bridge("recover", "--json").well().json

    assert answer["other_fetchers"] == {fetcher.key: 3}
    assert next_first(empty_redis, "low:2") == [*taken, waiting]
    assert not empty_redis.exists(fetcher.key)
    assert empty_redis.smembers("queues") == {b"low:2"}
    assert "foreign-orphans" not in diagnose(bridge)


def test_the_jobs_of_a_process_that_lives_stay(
    bridge: Bridge, empty_redis: redis.Redis, fetcher: Fetcher
) -> None:
    taken = take(empty_redis, fetcher)
    live(empty_redis, fetcher)

    assert "foreign-orphans" not in diagnose(bridge)
    out = bridge("recover").well().out

    assert f"3 jobs are in {fetcher.key}" in out
    assert "lives, stop it first" in out
    assert empty_redis.lrange(fetcher.key, 0, -1)[::-1] == taken


def test_a_process_that_comes_to_life_after_the_look_keeps_its_jobs(
    empty_redis: redis.Redis, fetcher: Fetcher
) -> None:
    """The script looks again, in the step that moves them."""
    take(empty_redis, fetcher)
    if fetcher.sign == ROW:
        empty_redis.sadd("processes", ROW)  # registered; its row has run out
    lists = ForeignLists(empty_redis)
    (found,) = lists.all()
    live(empty_redis, fetcher)

    assert not found.alive
    assert lists.give_back(found) == 0
    assert empty_redis.llen(fetcher.key) == 3


def test_more_than_one_page_goes_back_whole(empty_redis: redis.Redis) -> None:
    one = FETCHERS["super_fetch"]
    taken = take(empty_redis, one, PAGE + 7)
    lists = ForeignLists(empty_redis)
    assert [lists.give_back(found) for found in lists.all()] == [PAGE + 7]
    assert next_first(empty_redis, "low:2") == taken


def test_a_queue_that_only_looks_like_a_private_list_is_left_alone(
    bridge: Bridge, empty_redis: redis.Redis
) -> None:
    empty_redis.sadd("queues", "reports:working")
    empty_redis.lpush("queue:reports:working", job())
    assert bridge("recover", "--dry-run", "--json").well().json == []


def test_a_queue_of_a_wrong_type_keeps_the_jobs_where_they_are(
    bridge: Bridge, empty_redis: redis.Redis, fetcher: Fetcher
) -> None:
    take(empty_redis, fetcher)
    empty_redis.set("queue:low:2", "nonsense")
    assert bridge("recover").code != 0
    assert empty_redis.llen(fetcher.key) == 3


@pytest.mark.skipif(bool(redis_users.CHOSEN), reason="makes a user of its own")
def test_a_user_without_rights_on_such_lists_hears_it_in_a_sentence(
    bridge: Bridge, empty_redis: redis.Redis
) -> None:
    take(empty_redis, FETCHERS["gitlab-sidekiq-fetcher"])
    options = empty_redis.connection_pool.connection_kwargs
    keys = ("~queue:*", "~queues", "~processes", "~bridge:*")
    empty_redis.execute_command("ACL", "SETUSER", "narrow", "on", ">pw", *keys, "&*", "+@all")
    try:
        url = f"redis://narrow:pw@127.0.0.1:{options['port']}/{options['db']}"
        answer = Bridge({"BRIDGE_REDIS_URL": url})("recover", "--dry-run")
    finally:
        empty_redis.execute_command("ACL", "DELUSER", "narrow")
    assert answer.code != 0
    assert "permissions" in answer.err
    assert "Traceback" not in answer.err
