"""Checks 36 to 39: the dead set, and what is no job."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from tests.support.redis_server import RedisServer
from tests.support.ruby_root import RubyRoot
from tests.support.stage import Stage
from tests.support.waiting import wait_until_equal

HALF_A_YEAR = 15_552_000


@pytest.fixture(scope="module")
def small_graveyard(redis_server: RedisServer, ruby_root: RubyRoot) -> Iterator[Stage]:
    """A stage whose Rails side allows three dead jobs; the worker learns it from the sidecar."""
    made = Stage(redis_server, ruby_root, database=4)
    try:
        made.start_sidecar(env={"TEST_DEAD_MAX_JOBS": "3"})
        made.start_worker(concurrency=1)
        yield made
    finally:
        made.stop()


def test_check_36_of_three_dead_jobs_allowed_the_newest_two_stay(
    small_graveyard: Stage, failing: str
) -> None:
    stage = small_graveyard
    stage.reset()
    for number in range(5):
        stage.ruby.push(failing, str(number), retry=0)

    stage.wait_counters(5, 5)

    stage.wait_idle()
    kept = [json.loads(member)["args"] for member in stage.redis.zrange("dead", 0, -1)]
    assert kept == [["3"], ["4"]]


def test_check_37_the_next_burial_removes_what_is_older_than_half_a_year(stage: Stage, failing: str) -> None:
    old = {'{"jid":"old","class":"X","args":[],"queue":"default"}': time.time() - HALF_A_YEAR - 60}
    young = {'{"jid":"young","class":"X","args":[],"queue":"default"}': time.time() - HALF_A_YEAR + 60}
    stage.redis.zadd("dead", {**old, **young})

    jid = stage.ruby.push(failing, retry=0)

    wait_until_equal(
        lambda: {json.loads(member)["jid"] for member in stage.redis.zrange("dead", 0, -1)},
        {"young", jid},
        "jobs in dead",
    )


def test_check_38_malformed_json_is_buried_as_the_same_bytes(stage: Stage) -> None:
    stage.push_raw(b'{"class":')

    wait_until_equal(lambda: stage.redis.zrange("dead", 0, -1), [b'{"class":'], "dead")

    assert abs(stage.score("dead") - time.time()) < 5
    assert stage.ledger.count("died") == 0
    stage.ruby.get("/morgue").assert_fine()


@pytest.mark.parametrize("text", ["123", "[]", "null", '"text"', "true"])
def test_check_39_what_is_no_object_breaks_no_page(stage: Stage, text: str) -> None:
    stage.push_raw(text)

    # Stock Sidekiq loses it; the bridge buries it as an object that every page can show.
    entry = stage.only("dead")

    assert (entry["class"], entry["args"], entry["queue"]) == ("Bridge::InvalidPayload", [text], "default")
    assert entry["jid"]
    for page in ("/morgue", f"/morgue/{stage.score('dead')}-{entry['jid']}", "/queues/default", "/queues"):
        body = stage.ruby.get(page).assert_fine().body
        assert "morgue" not in page or "Bridge::InvalidPayload" in body
    assert stage.redis.zcard("retry") == 0
