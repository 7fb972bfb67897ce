"""An error about an error is still an outcome, under every pool.

An exception whose ``__str__`` raised SystemExit kept its job in flight under threads and gevent. Under solo
the job ran 44 times in 45 s. Each job here fails once, is settled once, and waits in ``retry`` or ``dead``.
"""

from __future__ import annotations

import json
from collections import Counter

import pytest

from tests.support import census
from tests.support.stage import Stage
from tests.support.waiting import wait_until_equal

POOLS = ["default", "threads", "prefork", "gevent", "solo"]


@pytest.fixture(params=POOLS)
def pooled(request: pytest.FixtureRequest, bare_stage: Stage) -> Stage:
    flags = () if request.param == "default" else ("-P", request.param)
    bare_stage.start_worker(
        *("-Q", "pool", *flags), concurrency=3, name="odd", module="tests.support.odd_errors"
    )
    return bare_stage


def names(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Read in a process of this test's settings: the module makes an application."""
    monkeypatch.setenv("BRIDGE_REDIS_URL", stage.redis_url)
    from tests.support.odd_errors import ERRORS, HOOKS

    return [*ERRORS, *HOOKS]


def class_of(name: str) -> str:
    return "OddHookJob" if name.startswith("hook") else "OddErrorJob"


def test_an_error_about_an_error_is_one_outcome(pooled: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = pooled

    # Given jobs whose errors cannot be told of: to be retried, and out of retries
    odd = {
        stage.push_job({"class": class_of(name), "args": [name], "retry": retry}, "pool"): (name, place)
        for name in names(stage, monkeypatch)
        for retry, place in ((True, "retry"), (0, "dead"))
    }

    # When the worker has run them, each was settled once
    wait_until_equal(stage.counters, (len(odd), len(odd)), "processed and failed", 60)
    stage.wait_idle()
    assert stage.queued == {}

    # and each waits in the one place that Sidekiq's rules say, after one run
    found = {
        json.loads(member)["jid"]: place
        for place in ("retry", "dead")
        for member in stage.redis.zrange(place, 0, -1)
    }
    assert {name: found.get(jid) for jid, name in odd.items()} == {(n, p): p for n, p in odd.values()}
    runs = Counter(line["jid"] for line in stage.ledger.lines)
    assert {odd[jid]: count for jid, count in runs.items() if count != 1} == {}
    census.assert_each_in_one_place(stage.redis)

    # and the worker lives, and ends in order
    assert stage.worker is not None
    assert stage.worker.terminate() == 0


@pytest.mark.parametrize("pool", ["default", "threads", "prefork", "solo"])
def test_a_result_that_cannot_be_told_of_costs_neither_job_nor_worker(
    bare_stage: Stage, pool: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its run succeeded. A pool process cannot say so: it takes the error about the result for the job's."""
    stage = bare_stage
    flags = () if pool == "default" else ("-P", pool)
    worker = stage.start_worker(
        *("-Q", "pool", *flags), concurrency=3, name="odd", module="tests.support.odd_results"
    )
    monkeypatch.setenv("BRIDGE_REDIS_URL", stage.redis_url)
    from tests.support.odd_results import ERRORS, RESULTS

    # Given jobs with such results, and coroutines with such errors
    jids = [
        stage.push_job({"class": name, "args": [case], "retry": True}, "pool")
        for name, cases in (("OddResultJob", RESULTS), ("OddCoroutineJob", ERRORS))
        for case in cases
    ]

    # When the worker has run them
    wait_until_equal(lambda: stage.counters()[0], len(jids), "processed jobs", 60)
    stage.wait_idle()

    # Then each was settled once after one run, and the coroutines wait for their retry
    assert stage.queued == {}
    runs = Counter(line["jid"] for line in stage.ledger.lines)
    assert {jid: runs[jid] for jid in jids if runs[jid] != 1} == {}
    census.assert_each_in_one_place(stage.redis)
    found = [json.loads(member)["class"] for member in stage.redis.zrange("retry", 0, -1)]
    assert found.count("OddCoroutineJob") == len(ERRORS)
    assert found.count("OddResultJob") <= (6 if pool == "prefork" else 0)
    assert worker.terminate() == 0
