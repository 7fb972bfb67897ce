"""Ends outside of Ruby are told to Ruby: hooks, death handlers and error handlers as Sidekiq calls them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.stage import Stage
from tests.support.waiting import wait_until_equal


@pytest.fixture(autouse=True)
def all_told(stage: Stage) -> Iterator[None]:
    """After each test Ruby has been told of everything, and nothing of it is left in Redis."""
    yield
    wait_until_equal(lambda: stage.redis.exists("bridge:notices", "bridge:telling"), 0, "notices")


def heard(stage: Stage, jid: str | None) -> list[tuple[str, str]]:
    """What Ruby's hooks and handlers were told about a job, in their order."""
    told = ("exhausted", "died", "error")
    return [
        (line["event"], line.get("note")) for line in stage.ledger.lines
        if line["jid"] == jid and line["event"] in told
    ]  # fmt: skip


def test_a_native_job_that_is_out_of_retries_runs_death_handlers_then_error_handlers(stage: Stage) -> None:
    jid = stage.push_job({"class": "NativeFailJob", "args": ["no luck"], "retry": 0})
    wait_until_equal(
        lambda: heard(stage, jid), [("died", "no luck"), ("error", "ValueError")], "what Ruby heard"
    )
    assert stage.only("dead")["error_message"] == "no luck"


@pytest.mark.parametrize("options", [{"retry": False}, {"retry": 0, "dead": False}])
def test_a_native_job_that_goes_nowhere_runs_them_too(options: dict[str, object], stage: Stage) -> None:
    jid = stage.push_job({"class": "NativeFailJob", "args": ["no luck"], **options})
    wait_until_equal(
        lambda: heard(stage, jid), [("died", "no luck"), ("error", "ValueError")], "what Ruby heard"
    )
    assert not stage.redis.exists("dead", "retry")


def test_a_native_job_that_is_retried_runs_error_handlers_alone(stage: Stage) -> None:
    jid = stage.push_job({"class": "NativeFailJob", "args": [], "retry": 3})
    wait_until_equal(lambda: heard(stage, jid), [("error", "ValueError")], "what Ruby heard")


def test_a_ruby_job_that_dies_in_ruby_is_told_once(stage: Stage) -> None:
    jid = stage.push_job({"class": "FailJob", "args": ["no luck"], "retry": 0})
    stage.only("dead")
    stage.wait_idle()
    assert sorted(heard(stage, jid)) == [("died", "no luck"), ("error", "ArgumentError")]
    assert not stage.redis.exists("bridge:notices")


def test_malformed_json_runs_error_handlers(stage: Stage) -> None:
    stage.push_raw("{oops")
    wait_until_equal(
        lambda: [line["note"] for line in stage.ledger.lines if line["event"] == "error"],
        ["JSON::ParserError"],
        "what Ruby heard",
    )
    assert stage.redis.zrange("dead", 0, -1) == [b"{oops"]


def test_a_refused_class_runs_death_handlers(stage: Stage) -> None:
    jid = stage.push_job({"class": "File", "args": []})
    wait_until_equal(lambda: [event for event, _ in heard(stage, jid)], ["died"], "what Ruby heard")
    assert stage.only("dead")["error_class"] == "Bridge::JobRefused"
