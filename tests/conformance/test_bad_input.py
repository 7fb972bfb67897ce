"""Bad input: no crash of the worker, no loss, a clear log line, and no page of the Web UI broken by it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support import census
from tests.support.stage import Stage
from tests.support.waiting import wait_for, wait_until_equal

PAGES = ("/", "/busy", "/queues", "/queues/default", "/retries", "/scheduled", "/morgue", "/stats")

#: Bytes that no Sidekiq client would push.
BAD_BYTES = {
    "an empty string": b"",
    "a cut object": b'{"class":"EchoJob","args":[1,',
    "text behind the object": b'{"class":"EchoJob"} x',
    "not a number": b'{"class":"EchoJob","args":[NaN]}',
    "a byte order mark": b'\xef\xbb\xbf{"class":"EchoJob"}',
    "a number": b"17",
    "a list": b'[{"class":"EchoJob"}]',
    "null": b"null",
    "text": b'"EchoJob"',
    "a raw NUL": b'{"class":"EchoJob","args":["\x00"],"jid":"nul"}',
    "deep nesting": b'{"class":"EchoJob","jid":"deep","args":' + b"[" * 5000 + b"]" * 5000 + b"}",
    "an endless number": b'{"class":"EchoJob","jid":"long","args":[' + b"9" * 10_000 + b"]}",
    "a lone surrogate": b'{"class":"EchoJob","jid":"half","args":["\\ud800"]}',
    "a float beyond all": b'{"class":"EchoJob","jid":"inf","args":[1e999]}',
}

#: Objects with a wrong type somewhere.
WRONG_FIELDS: dict[str, dict[str, Any]] = {
    "no class": {"args": []},
    "class null": {"class": None, "args": []},
    "class a number": {"class": 5, "args": []},
    "class an object": {"class": {"a": 1}, "args": []},
    "class empty": {"class": "", "args": []},
    "class a lower-case word": {"class": "echo", "args": []},
    "class a path": {"class": "../../etc/passwd", "args": []},
    "class of Celery": {"class": "celery.backend_cleanup", "args": []},
    "class bridge.perform": {"class": "bridge.perform", "args": []},
    "class Kernel": {"class": "Kernel", "args": []},
    "class with HTML": {"class": "<script>alert(1)</script>", "args": []},
    "args an object": {"class": "FailJob", "args": {"a": 1}},
    "args text": {"class": "FailJob", "args": "abc"},
    "args null": {"class": "FailJob", "args": None},
    "jid a number": {"class": "FailJob", "args": [], "jid": 5},
    "jid null": {"class": "FailJob", "args": [], "jid": None},
    "jid an object": {"class": "FailJob", "args": [], "jid": {}},
    "queue a number": {"class": "FailJob", "args": [], "queue": 5},
    "retry an object": {"class": "FailJob", "args": [], "retry": {}},
    "retry negative": {"class": "FailJob", "args": [], "retry": -5},
    "retry absurd": {"class": "FailJob", "args": [], "retry": 10**30},
    "retry_count text": {"class": "FailJob", "args": [], "retry_count": "many"},
    "retry_count absurd": {"class": "FailJob", "args": [], "retry_count": 10**20},
    "retry_count a fraction": {"class": "FailJob", "args": [], "retry_count": 1.5},
    "failed_at text": {"class": "FailJob", "args": [], "retry_count": 1, "failed_at": "yesterday"},
    "failed_at absurd": {"class": "FailJob", "args": [], "retry_count": 1, "failed_at": 10**40},
    "retry_queue a number": {"class": "FailJob", "args": [], "retry_queue": 9},
    "retry_for text": {"class": "FailJob", "args": [], "retry_for": "soon"},
    "backtrace text": {"class": "FailJob", "args": [], "backtrace": "yes"},
    "wrapped a list": {"class": "FailJob", "args": [], "wrapped": [1]},
    "a native class, args an object": {"class": "NativeFailJob", "args": {"a": 1}},
    "a native class, too many args": {"class": "NativeFailJob", "args": [1, 2, 3, 4]},
    "a native class, retry_count text": {"class": "NativeFailJob", "args": [], "retry_count": "many"},
    "a native class, failed_at text": {
        "class": "NativeFailJob",
        "args": [],
        "retry_count": 1,
        "failed_at": "x",
    },
    "a native class, retry absurd": {"class": "NativeFailJob", "args": [], "retry": 10**30},
    "a native class, retry_for absurd": {"class": "NativeFailJob", "args": [], "retry_for": 10**30},
    "a native class, backtrace absurd": {"class": "NativeFailJob", "args": [], "backtrace": 10**30},
}


def assert_still_well(stage: Stage) -> None:
    """The worker holds nothing, still runs jobs of both kinds, and every page opens."""
    stage.wait_done()
    for job_class in ("EchoJob", "NativeEchoJob"):
        stage.ledger.wait_for("done", stage.ruby.push(job_class))
    assert stage.worker is not None
    assert stage.worker.process.is_alive
    for page in PAGES:
        stage.ruby.get(page).assert_fine()
    census.assert_keys_clean(stage.redis)


def kept(stage: Stage) -> list[bytes]:
    return [member for name in ("retry", "dead") for member in stage.redis.zrange(name, 0, -1)]


@pytest.mark.parametrize("name", BAD_BYTES)
def test_bad_bytes_are_run_or_kept(stage: Stage, name: str) -> None:
    stage.push_raw(BAD_BYTES[name])
    stage.wait_done()

    # Ruby's own parser decides what is a job; whatever is none stands in the dead set, where people see it.
    wait_until_equal(lambda: stage.ledger.count("done") + len(kept(stage)), 1, "places of the payload")

    assert_still_well(stage)


@pytest.mark.parametrize("name", WRONG_FIELDS)
def test_a_wrong_type_is_a_failure_like_any_other(stage: Stage, name: str) -> None:
    payload = json.dumps({"jid": "wrong", "retry": True, "queue": "default", **WRONG_FIELDS[name]})
    stage.push_raw(payload)
    stage.wait_done()

    wait_for(lambda: len(kept(stage)) == 1, f"the job in retry or dead, not {kept(stage)}")

    entry = json.loads(kept(stage)[0])
    assert entry["error_class"]
    assert entry["error_message"]
    assert entry.get("args") == WRONG_FIELDS[name].get("args")
    assert_still_well(stage)


def test_a_huge_payload_runs(stage: Stage) -> None:
    jid = stage.push_job({"class": "EchoJob", "args": ["x" * 8_000_000]})

    stage.ledger.wait_for("done", jid)

    assert len(stage.ledger.args(jid)[0]) == 8_000_000


def test_invalid_utf_8_in_a_payload_is_kept_byte_for_byte(stage: Stage) -> None:
    payload = b'{"class":"FailJob","args":["caf\xe9"],"jid":"latin","retry":true,"queue":"default"}'
    stage.push_raw(payload)
    stage.wait_done()

    wait_until_equal(lambda: len(kept(stage)), 1, "places of the payload")

    assert b'"caf\xe9"' in kept(stage)[0]
    assert_still_well(stage)


def test_what_is_no_job_is_named_in_the_log(stage: Stage) -> None:
    stage.push_raw(b"[1,2,3]")
    stage.wait_done()

    assert stage.worker is not None
    assert "buried a payload that is not a job, from queue default" in stage.worker.log


def test_a_queue_of_the_wrong_type_stops_no_other_queue(stage: Stage) -> None:
    stage.redis.set("queue:low", "not a list")
    try:
        jid = stage.ruby.push("EchoJob")
        stage.ledger.wait_for("done", jid)
    finally:
        stage.redis.delete("queue:low")
    stage.ledger.wait_for("done", stage.ruby.push("EchoJob", queue="low"))


def test_a_dead_set_of_the_wrong_type_loses_no_job(stage: Stage) -> None:
    stage.redis.set("dead", "not a sorted set")
    jid = stage.ruby.push("FailJob", retry=0)
    stage.ledger.wait_for("failed", jid)

    stage.redis.delete("dead")

    assert stage.only("dead")["jid"] == jid
    stage.wait_idle()
