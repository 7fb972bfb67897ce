"""Sidekiq's pages open for every job that the bridge puts into ``retry`` or ``dead``, on every version.

Any client may push ``tags: 5`` or ``failed_at: []``. The page of such an entry raised, and often the whole
list. The own value of a field is kept beside it. Jobs without class or ``retry`` were dropped, as in Sidekiq.
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import pytest

from bridge.sidekiq.payload import ruby_json
from bridge.sidekiq.payload.pages import ORIGINAL
from tests.support.stage import Stage
from tests.support.waiting import wait_until_equal

WRAPPER = "ActiveJob::QueueAdapters::SidekiqAdapter::JobWrapper"
ODD: dict[str, dict[str, Any]] = {
    "tags 5": {"tags": 5},
    "tags text": {"tags": "a"},
    "tags object": {"tags": {"a": 1}},
    "tags mixed": {"tags": ["a", 5, None, []]},
    "failed_at list": {"failed_at": []},
    "failed_at text": {"failed_at": "yesterday", "retry_count": 1},
    "failed_at huge": {"failed_at": 1e300, "retry_count": 0},
    "failed_at lost": {"retry_count": -1},
    "retried_at true": {"retried_at": True, "failed_at": 1.5, "retry_count": 3},
    "created_at null": {"created_at": None},
    "created_at text": {"created_at": "x"},
    "created_at below zero": {"created_at": -1e20},
    "enqueued_at": {"enqueued_at": "x"},
    "error_backtrace 7": {"error_backtrace": 7},
    "error_backtrace text": {"error_backtrace": "not base64 of anything"},
    "error_backtrace list": {"error_backtrace": ["a", "b"]},
    "args object": {"args": {}},
    "args text": {"args": "text"},
    "args null": {"args": None},
    "encrypt": {"encrypt": True, "args": []},
    "encrypt without args": {"encrypt": 1, "args": None},
    "retry_count text": {"retry_count": "3"},
    "retry_count true": {"retry_count": True},
    "queue": {"queue": 5},
    "display_class": {"display_class": [1]},
    "error_class": {"error_class": {"a": 1}, "error_message": 5},
    "jid number": {"jid": 5},
    "jid null": {"jid": None},
    "jid slash": {"jid": "a/b"},
    "jid object": {"jid": {"a": 1}},
    "bid": {"bid": [1]},
    "wrapped": {"wrapped": 5},
    "cattr": {"cattr": 5, "locale": 7},
}

DEEP = b"[" * 99 + b"]" * 99
#: What JSON of Ruby's reads, and Python's writer refuses, cannot write, or would write too deep.
RAW = {
    "tags infinite": b'"tags":[1e400]',
    "tags deep": b'"tags":' + DEEP,
    "tags no UTF-8": b'"tags":["\xff"]',
    "jid no UTF-8": b'"jid":"\xff"',
    "created_at infinite": b'"created_at":1e400',
    "created_at deep": b'"created_at":' + DEEP,
    "enqueued_at infinite": b'"enqueued_at":-1e400',
    "failed_at infinite": b'"failed_at":1e400,"retry_count":1',
    "original infinite": b'"tags":5,"bridge_original":{"a":1e400}',
    "original text": b'"tags":5,"bridge_original":"own"',
    "backtrace huge": b'"backtrace":' + b"1" * 400,
    "time limit infinite": b'"time_limit":1e400',
}


def json_of(member: bytes) -> dict[str, Any]:
    return dict(ruby_json.parse(member)[0])


def keys_of(stage: Stage, name: str) -> list[str]:
    """The addresses of the entries' pages."""
    found = stage.redis.zrange(name, 0, -1, withscores=True)
    return [f"{score!r}-{json_of(member).get('jid')}" for member, score in found]


def assert_pages_open(stage: Stage, name: str, count: int) -> None:
    path = {"retry": "/retries", "dead": "/morgue"}[name]
    stage.ruby.get(f"{path}?count=100").assert_fine()
    keys = keys_of(stage, name)
    assert len(keys) == count
    for key in keys:
        body = stage.ruby.get(f"{path}/{quote(key)}").assert_fine().body
        assert "JID" in body, f"{key}: {body[:200]}"


@pytest.mark.parametrize("name", ["FailJob", "NativeFailJob"])
@pytest.mark.parametrize(("retry", "place"), [(True, "retry"), (0, "dead")])
def test_the_pages_open_whatever_fields_a_failed_job_has(
    stage: Stage, name: str, retry: object, place: str
) -> None:
    # Given jobs that fail, each with a field that no client of Sidekiq's would write
    for number, odd in enumerate(ODD.values()):
        base = {"class": name, "jid": f"{number:024x}", "args": [], "retry": retry, "created_at": 1.5}
        stage.push_raw(json.dumps({**base, **odd}))
    wait_until_equal(lambda: stage.counters()[1], len(ODD), "failures", 30)
    stage.wait_idle()

    # Then each has one entry, and its page opens
    found = sum(stage.redis.zcard(key) for key in ("retry", "dead"))
    assert found == len(ODD)
    for key in ("retry", "dead"):
        assert_pages_open(stage, key, stage.redis.zcard(key))

    # and the value that a page cannot show is kept
    entries = [json.loads(member) for key in ("retry", "dead") for member in stage.redis.zrange(key, 0, -1)]
    kept = {json.dumps(entry[ORIGINAL], sort_keys=True) for entry in entries if ORIGINAL in entry}
    assert {'{"tags": 5}', '{"error_backtrace": 7}', '{"created_at": "x"}', '{"jid": "a/b"}'} <= kept


@pytest.mark.parametrize("name", ["FailJob", "NativeFailJob"])
@pytest.mark.parametrize(("retry", "place"), [(b"true", "retry"), (b"0", "dead")])
def test_a_field_that_cannot_be_written_again_costs_neither_the_job_nor_the_worker(
    stage: Stage, name: str, retry: bytes, place: str
) -> None:
    """``{"tags": [1e400]}``: the settlement raised ValueError. The worker stopped and left all its jobs in
    flight; the next worker found the job and stopped as well.
    """
    for number, odd in enumerate(RAW.values()):
        usual = {"class": name, "jid": f"{number:024x}", "args": [], "created_at": 1.5}
        # Ruby's JSON 3 refuses a key that occurs twice.
        kept = {key: value for key, value in usual.items() if f'"{key}":'.encode() not in odd}
        stage.push_raw(json.dumps(kept).encode()[:-1] + b',"retry":' + retry + b"," + odd + b"}")

    stage.wait_counters(len(RAW), len(RAW))
    stage.wait_idle()

    # Then each has its one entry, which Ruby reads, and whose page opens
    assert stage.redis.zcard(place) + stage.redis.zcard("dead" if place == "retry" else "retry") == len(RAW)
    for key in ("retry", "dead"):
        assert_pages_open(stage, key, stage.redis.zcard(key))
    entries = [json_of(member) for key in ("retry", "dead") for member in stage.redis.zrange(key, 0, -1)]
    originals = {json.dumps(entry[ORIGINAL], sort_keys=True) for entry in entries if ORIGINAL in entry}
    assert {
        '{"tags": "[Infinity]"}',
        '{"created_at": "Infinity"}',
        '{"a": "Infinity", "tags": 5}',
        '{"bridge_original": "own", "tags": 5}',
    } <= originals


@pytest.mark.parametrize("retry", [{}, {"retry": None}])
@pytest.mark.parametrize(
    "fields",
    [
        {"jid": "a" * 24, "args": [1, 2]},
        {"class": None, "args": ["kept"]},
        {"class": 5},
        {"class": {"a": 1}},
        {"class": "NoSuchJob", "args": ["kept"], "jid": "b" * 24},
        {"class": "no constant", "args": []},
        {},
    ],
    ids=str,
)
def test_a_job_without_a_class_or_a_retry_option_is_kept_in_dead(
    stage: Stage, fields: dict[str, Any], retry: dict[str, Any]
) -> None:
    payload = {**fields, **retry}

    stage.push_raw(json.dumps(payload))

    entry = stage.only("dead")
    stage.wait_idle()
    assert {name: entry.get(name) for name in fields if name != "jid"} == {
        n: v for n, v in fields.items() if n != "jid"
    }
    assert entry["error_class"]
    assert entry["error_message"]
    assert_pages_open(stage, "dead", 1)


def test_a_class_that_says_no_retry_still_drops_its_job(stage: Stage) -> None:
    stage.push_job({"class": "RetryFalseJob"})
    stage.push_job({"class": "NoSuchJob", "retry": False})

    stage.wait_counters(2, 2)
    stage.wait_idle()

    assert stage.redis.exists("dead", "retry") == 0


MAILS = [
    {"class": WRAPPER, "wrapped": "GreetJob", "args": []},
    {"class": WRAPPER, "wrapped": "GreetJob", "args": [5]},
    {"class": WRAPPER, "wrapped": "ActionMailer::MailDeliveryJob", "args": [{"arguments": ["M"]}]},
    {"class": WRAPPER, "wrapped": "ActionMailer::DeliveryJob", "args": [{"arguments": 7}]},
    {"class": WRAPPER, "args": [{"job_class": "GreetJob", "arguments": []}]},
]


@pytest.mark.parametrize("retry", [True, 0])
def test_the_pages_open_for_active_jobs_without_their_arguments(stage: Stage, retry: object) -> None:
    for number, fields in enumerate(MAILS):
        stage.push_raw(json.dumps({**fields, "retry": retry, "jid": f"{number:024x}"}))

    wait_until_equal(
        lambda: stage.redis.zcard("retry") + stage.redis.zcard("dead"), len(MAILS), "entries", 30
    )
    stage.wait_idle()

    for key in ("retry", "dead"):
        assert_pages_open(stage, key, stage.redis.zcard(key))
