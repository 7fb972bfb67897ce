from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from bridge.redis.client_tracking import ClientTracking
from bridge.sidekiq.payload.timestamps import Timestamps
from bridge.sidekiq.schedule.due_watch import DueWatch
from bridge.sidekiq.schedule.scheduler import Scheduler
from bridge.sidekiq.store.store import RedisStore
from tests.integration.worker import as_bridge
from tests.support.waiting import wait_for

QUEUES = ("queue:a", "queue:b")


@pytest.fixture
def tracking(client: redis.Redis) -> Iterator[ClientTracking]:
    made = ClientTracking(as_bridge(client))
    yield made
    made.close()


def calls(client: redis.Redis) -> int:
    """Commands so far, those inside scripts too, without the questions of this test."""
    found = client.info("commandstats")
    return sum(value["calls"] for name, value in found.items() if name != "cmdstat_info")


def cut_the_links(client: redis.Redis) -> None:
    """End every connection that watches."""
    for each in client.client_list():
        if "t" in each["flags"]:
            client.client_kill(each["addr"])


# -- the tracker


def test_a_push_to_any_of_the_keys_is_told_once(tracking: ClientTracking, client: redis.Redis) -> None:
    assert tracking.arm(QUEUES) is False
    assert not tracking.has_news()

    client.lpush("queue:b", "1")

    wait_for(tracking.has_news, "the message")
    tracking.told()
    assert not tracking.watches(QUEUES)
    client.lpush("queue:b", "2")
    client.ping()
    assert not tracking.has_news(), "told once for each time it is asked for"


def test_what_is_there_already_is_found_by_arming(tracking: ClientTracking, client: redis.Redis) -> None:
    client.lpush("queue:a", "1")

    assert tracking.arm(QUEUES) is True
    assert tracking.watches(QUEUES)
    assert not tracking.watches((*QUEUES, "queue:c")), "another queue would not be told"


def test_a_message_that_nobody_read_is_not_taken_for_an_answer(
    tracking: ClientTracking, client: redis.Redis
) -> None:
    tracking.arm(QUEUES)
    client.lpush("queue:a", "1")
    wait_for(tracking.has_news, "the message")

    assert tracking.arm(QUEUES) is True


def test_a_cut_link_is_an_error_and_can_be_watched_again(
    tracking: ClientTracking, client: redis.Redis
) -> None:
    tracking.arm(QUEUES)
    cut_the_links(client)

    wait_for(tracking.has_news, "the end of the link")
    with pytest.raises((redis.RedisError, OSError)):
        tracking.told()
    assert tracking.arm(QUEUES) is False


class Together(ClientTracking):
    """Its watched key changes in the moment of the answer, and both arrive in one read."""

    def _ask(self, *command: str) -> Any:
        if command[0] != "EXISTS":
            return super()._ask(*command)
        push = ("LPUSH", "queue:a", "1")
        self._connection.send_packed_command(self._connection.pack_commands([command, push]))
        return self._connection.read_response()


def test_a_message_that_comes_with_the_answer_is_news(client: redis.Redis) -> None:
    tracking = Together(client)

    assert tracking.arm(QUEUES) is True
    assert not tracking.watches(QUEUES), "nothing more would be told"
    tracking.close()


class CutBehindTheAnswer(ClientTracking):
    """Redis answers, and ends the link."""

    def __init__(self, client: redis.Redis) -> None:
        super().__init__(client)
        self.client = client

    def _ask(self, *command: str) -> Any:
        answer = super()._ask(*command)
        if command[0] == "EXISTS":
            cut_the_links(self.client)
            self._connection._sock.recv(1, socket.MSG_PEEK)
        return answer


def test_a_link_that_is_cut_behind_its_answer_is_an_error_and_no_news(client: redis.Redis) -> None:
    # Whoever took it for news waited on a closed socket.
    tracking = CutBehindTheAnswer(client)

    with pytest.raises(redis.ConnectionError):
        tracking.arm(QUEUES)
    tracking.close()


# -- retry and schedule


@pytest.fixture
def scheduler(client: redis.Redis) -> Scheduler:
    own = as_bridge(client)
    made = Scheduler(RedisStore(own), lambda: Timestamps.SECONDS, watch=DueWatch(own))
    made.round()
    return made


def test_a_round_without_news_costs_redis_nothing_however_much_is_scheduled(
    scheduler: Scheduler, client: redis.Redis
) -> None:
    client.zadd("schedule", {'{"class":"A","args":[]}': time.time() + 3600})
    wait_for(lambda: scheduler.round() and scheduler.watch.due_in_seconds < 3601, "the entry to be seen")
    before = calls(client)

    for _ in range(5):
        scheduler.round()

    assert calls(client) == before


def test_an_entry_that_another_process_adds_is_seen_at_the_next_round(
    scheduler: Scheduler, client: redis.Redis
) -> None:
    scheduler.round()
    client.zadd("retry", {'{"class":"A","args":[],"jid":"1","queue":"default"}': time.time() - 1})

    wait_for(lambda: scheduler.round() and client.llen("queue:default"), "the job in its queue")

    assert client.zcard("retry") == 0


def test_an_entry_is_promoted_when_its_time_comes_and_nothing_changes_meanwhile(
    scheduler: Scheduler, client: redis.Redis
) -> None:
    client.zadd("schedule", {'{"class":"A","args":[],"jid":"1","queue":"default"}': time.time() + 0.3})

    wait_for(lambda: scheduler.round() and client.llen("queue:default"), "the job in its queue")


def test_where_redis_tells_nothing_the_sets_are_looked_at(client: redis.Redis) -> None:
    client.execute_command(
        "ACL", "SETUSER", "no-tracking", "on", ">secret", "~*", "&*", "+@all", "-client|tracking"
    )
    port = client.connection_pool.connection_kwargs["port"]
    try:
        with redis.Redis(port=port, username="no-tracking", password="secret") as narrow:
            scheduler = Scheduler(RedisStore(narrow), lambda: Timestamps.SECONDS, watch=DueWatch(narrow))
            scheduler.round()
            narrow.zadd("retry", {'{"class":"A","args":[],"jid":"1","queue":"default"}': time.time() - 1})

            scheduler.round()

            assert narrow.llen("queue:default") == 1
    finally:
        client.execute_command("ACL", "DELUSER", "no-tracking")


def test_a_look_that_fails_is_had_again(client: redis.Redis) -> None:
    watch = DueWatch(as_bridge(client))
    assert watch.worth_a_look()
    watch.seen(None)
    assert not watch.worth_a_look()
    client.zadd("retry", {"{}": 1})
    wait_for(watch.worth_a_look, "the message")

    # Not seen: Redis did not answer the look.
    assert watch.worth_a_look()

    watch.seen(60.0)
    assert not watch.worth_a_look()


# -- many queues


def test_an_outage_of_the_watch_leaves_the_look(client: redis.Redis) -> None:
    bridge = as_bridge(client)
    scheduler = Scheduler(RedisStore(bridge), lambda: Timestamps.SECONDS, watch=DueWatch(bridge))
    scheduler.round()
    cut_the_links(client)
    client.zadd("retry", {'{"class":"A","args":[],"jid":"1","queue":"default"}': time.time() - 1})

    wait_for(lambda: scheduler.round() and client.llen("queue:default"), "the job in its queue")
