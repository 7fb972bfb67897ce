"""What a native task says about its retries holds, however the run ends, under every pool.

A decision travelled in an exception alone: ``self.retry(throw=False)``, or a Retry that ``except Exception``
swallowed, counted the job as done, and it was gone. Stock Celery runs both again. The options of a task
(``autoretry_for``, ``max_retries``, ``default_retry_delay``) had no effect.
"""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from tests.support import census
from tests.support.stage import Stage
from tests.support.waiting import wait_until_equal

POOLS = ["default", "threads", "prefork", "gevent", "solo"]
HOUR = 3600.0


@pytest.fixture(scope="module", params=POOLS)
def pooled(request: pytest.FixtureRequest, redis_server: Any, ruby_root: Any) -> Any:
    with Stage(redis_server, ruby_root, database=2) as stage:
        flags = () if request.param == "default" else ("-P", request.param)
        module = "retrying_tasks" if request.param == "gevent" else "retrying_coroutines"
        stage.start_worker(
            "-Q", "pool", *flags, concurrency=2, name="asked", module=f"tests.support.{module}"
        )
        yield stage


def places(stage: Stage) -> dict[str, tuple[str, dict[str, Any], float]]:
    """Place, entry and seconds until its score, by jid."""
    return {
        (entry := json.loads(member))["jid"]: (place, entry, score - time.time())
        for place in ("retry", "dead")
        for member, score in stage.redis.zrange(place, 0, -1, withscores=True)
    }


def run(stage: Stage, jobs: list[dict[str, Any]]) -> list[str]:
    """Push them, and wait until each was settled once."""
    stage.reset()
    jids = [stage.push_job(job, "pool") for job in jobs]
    wait_until_equal(lambda: stage.counters()[0], len(jobs), "processed jobs")
    stage.wait_idle()
    census.assert_each_in_one_place(stage.redis)
    return jids


AGAIN = ["without a throw", "swallowed", "another error", "ignored", "rejected", "bare"]
DONE = ["given up", "swallowed ignore", "swallowed reject"]


def test_a_retry_that_was_asked_for_is_kept_however_the_run_ends(pooled: Stage) -> None:
    ways = [*AGAIN, *DONE]
    jids = run(pooled, [{"class": "AskingJob", "args": [way], "retry": True} for way in ways])

    found = places(pooled)
    kept = {way: found.get(jid) for way, jid in zip(ways, jids, strict=True)}
    assert {way for way, place in kept.items() if place is not None} == set(AGAIN)
    for way in AGAIN:
        place, entry, waits = kept[way] or ("", {}, 0.0)
        assert (place, entry["retry_count"]) == ("retry", 0), way
        assert HOUR - 60 < waits <= HOUR, way
    assert (kept["another error"] or ())[1]["error_message"] == "after the retry"
    assert pooled.counters() == (len(ways), len(AGAIN))


@pytest.mark.parametrize("pooled", [pool for pool in POOLS if pool != "gevent"], indirect=True)
def test_a_coroutine_asks_for_a_retry_as_any_task(pooled: Stage) -> None:
    ways = ["swallowed", "without a throw", "error", "done"]
    jids = run(pooled, [{"class": "AskingCoroutineJob", "args": [way], "retry": True} for way in ways])

    found = places(pooled)
    assert [found[jid][0] for jid in jids if jid in found] == ["retry"] * 3
    assert all(found[jid][2] > HOUR - 60 for jid in jids[:2])


def test_a_retry_with_other_arguments_and_another_queue(pooled: Stage) -> None:
    [jid] = run(pooled, [{"class": "AskingJob", "args": ["other arguments"], "retry": True}])

    _, entry, _ = places(pooled)[jid]

    assert (entry["args"], entry["queue"], entry["time_limit"]) == (["again", {"n": 1}], "other", 30)


@pytest.mark.parametrize(("way", "word"), [("keywords", "keyword"), ("an option", "priority")])
def test_a_retry_with_what_a_job_cannot_carry_fails_with_the_sentence(
    pooled: Stage, way: str, word: str
) -> None:
    [jid] = run(pooled, [{"class": "AskingJob", "args": [way], "retry": True}])

    _, entry, _ = places(pooled)[jid]

    assert entry["error_class"].endswith("PushRefused")
    assert word in entry["error_message"]


def test_what_a_retry_cannot_mean_is_refused_and_an_error_may_be_a_class_or_a_text(pooled: Stage) -> None:
    """A queue that no worker may read kept the job for good; ``args="abc"`` became three arguments; arguments
    deeper than Ruby reads were buried unread; a class as ``exc`` cost the countdown.
    """
    from tests.support.retrying_tasks import CAUSES, SLIPS

    jids = run(pooled, [{"class": "AskingJob", "args": [way], "retry": True} for way in SLIPS])

    found = places(pooled)
    for way, jid in zip(SLIPS, jids, strict=True):
        place, entry, waits = found[jid]
        assert (place, entry["queue"], entry["args"]) == ("retry", "pool", [way])
        if way in CAUSES:
            assert (entry["error_class"], entry["error_message"]) == CAUSES[way][1:], way
            assert waits > HOUR - 60
        else:
            assert entry["error_class"].endswith("PushRefused"), (way, entry["error_message"])
            assert way.split()[0] in entry["error_message"]


def test_a_task_that_replaces_itself_is_done_and_the_other_one_runs(pooled: Stage) -> None:
    pooled.reset()
    jid = pooled.push_job({"class": "AskingJob", "args": ["replaced"], "retry": True}, "pool")
    pooled.redis.sadd("queues", "default")

    wait_until_equal(lambda: pooled.redis.llen("queue:default"), 1, "the other task's job")

    pushed = json.loads(pooled.redis.lindex("queue:default", 0))
    assert (pushed["class"], pushed["args"], pushed["jid"]) == ("DoneJob", ["replaced"], jid)
    assert places(pooled) == {}


#: retry_count before this failure, and the place, with the range of its delay.
CURVE = (15.0 - 5, 26.0)
FIRST_FAILURES: dict[str, tuple[str, tuple[float, float]]] = {
    "NamedJob": ("retry", CURVE),
    "UnnamedJob": ("dead", ()),  # type: ignore[dict-item]
    "NothingNamedJob": ("dead", ()),  # type: ignore[dict-item]
    "ExceptedJob": ("dead", ()),  # type: ignore[dict-item]
    "NotExceptedJob": ("retry", CURVE),
    "DelayedJob": ("retry", (HOUR - 60, HOUR)),
    "CountdownJob": ("retry", (HOUR - 60, HOUR)),
    "LowLimitJob": ("retry", CURVE),
    "BackoffJob": ("retry", (495, 500)),
}


def test_the_options_of_a_task_decide_about_a_first_failure(pooled: Stage) -> None:
    names = list(FIRST_FAILURES)
    jids = run(pooled, [{"class": name, "retry": True} for name in names])

    found = places(pooled)
    for name, jid in zip(names, jids, strict=True):
        place, entry, waits = found[jid]
        wanted, delay = FIRST_FAILURES[name]
        assert (name, place, entry["retry_count"]) == (name, wanted, 0)
        if delay:
            assert delay[0] <= waits <= delay[1], (name, waits)


#: class, the job's own option, retry_count before, and the place after this failure.
LIMITS = [
    ("LowLimitJob", True, 0, "retry"),
    ("LowLimitJob", True, 1, "dead"),
    ("LowLimitJob", 10, 1, "dead"),
    ("LowLimitJob", 1, 0, "dead"),
    ("LowKwargsJob", True, 1, "dead"),
    ("LowKwargsJob", True, 0, "retry"),
    ("HighLimitJob", True, 30, "retry"),
    ("HighLimitJob", 25, 30, "dead"),
    ("OwnLimitJob", True, 0, "dead"),
    ("OwnLimitJob", True, None, "retry"),
]


def test_the_lower_limit_of_task_and_job_holds(pooled: Stage) -> None:
    jobs: list[dict[str, Any]] = []
    for name, option, count, _ in LIMITS:
        counted = {} if count is None else {"retry_count": count, "failed_at": time.time() - 5}
        jobs.append({"class": name, "retry": option, **counted})
    jids = run(pooled, jobs)

    found = places(pooled)
    assert [(*row[:3], found[jid][0]) for row, jid in zip(LIMITS, jids, strict=True)] == LIMITS


def test_an_error_that_is_not_retried_is_dropped_where_the_job_says_so(pooled: Stage) -> None:
    jobs = [
        {"class": "UnnamedJob", "retry": False},
        {"class": "UnnamedJob", "retry": True, "dead": False},
    ]
    run(pooled, jobs)

    assert places(pooled) == {}
    assert pooled.counters() == (2, 2)
