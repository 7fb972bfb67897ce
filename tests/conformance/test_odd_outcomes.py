"""One Ruby job's outcome that JSON refuses is that job's own matter, on every version of Sidekiq.

A hook that put binary text or NaN into the job's hash made three replies of 500. Each tripped the breaker for
all jobs (200 good ones took 43 s), and the job was buried as poison after its first failure.
"""

from __future__ import annotations

import time

import pytest

from tests.support.stage import Stage
from tests.support.waiting import wait_until_equal

KINDS = ["binary", "nan", "object", "garbled"]


@pytest.mark.parametrize(("retry", "place"), [(True, "retry"), (0, "dead")])
def test_an_outcome_that_json_refuses_is_no_outage(stage: Stage, retry: object, place: str) -> None:
    # Given odd jobs among good ones
    odd = []
    for kind in KINDS:
        odd.append(stage.push_job({"class": "OddOutcomeJob", "args": [kind], "retry": retry}))
        for number in range(25):
            stage.push_job({"class": "EchoJob", "args": [number]})
    before = time.monotonic()

    # When all have run
    stage.wait_counters(len(KINDS) * 26, len(KINDS))
    stage.wait_idle()

    # Then each odd one has failed once, and no other waited for it
    assert time.monotonic() - before < 10
    assert stage.redis.zcard(place) == len(KINDS)
    assert [stage.ledger.count("started", jid) for jid in odd] == [1] * len(KINDS)
    entries = {entry["jid"]: entry["item"] for entry in stage.ruby.set(place)}
    assert {entries[jid]["error_class"] for jid in odd} == {"ArgumentError"}
    if place == "dead":
        assert {"nan": entries[odd[1]]["odd"], "binary": entries[odd[0]]["odd"]} == {
            "nan": "NaN",
            "binary": "\ufffd",
        }
    assert stage.worker is not None
    assert "internal" not in stage.worker.log


def test_what_a_failed_job_leaves_in_its_thread_reaches_no_other(stage: Stage) -> None:
    """Stock Sidekiq starts a new thread after each failure."""
    jids = [stage.push_job({"class": "LeavingJob", "args": ["failing"], "retry": False}) for _ in range(30)]

    stage.wait_counters(30, 30)

    assert [stage.ledger.args(jid, "seen") for jid in jids] == [[None, None]] * 30


def test_stock_sidekiq_does_the_same_with_its_threads(stage: Stage, stock_sidekiq: object) -> None:
    jids = []
    for _ in range(10):
        jids.append(stage.push_job({"class": "LeavingJob", "args": ["failing"], "retry": False}, "stock"))

    wait_until_equal(lambda: [stage.ledger.count("seen", jid) for jid in jids], [1] * 10, "stock's jobs")

    assert [stage.ledger.args(jid, "seen") for jid in jids] == [[None, None]] * 10
