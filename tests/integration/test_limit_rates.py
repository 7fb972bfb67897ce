"""The next start of a rate, as the two threads of one worker know it."""

from __future__ import annotations

from typing import Any

import pytest

from bridge.limits.lines import Lines
from bridge.limits.next_starts import NextStarts
from bridge.redis import scripts
from bridge.sidekiq.payload.job import SidekiqJob
from bridge.sidekiq.store import lua
from bridge.sidekiq.store.store import RedisStore
from tests.integration.test_limit_scripts import ME, Fleet
from tests.integration.worker import job
from tests.support.waiting import wait_for

INTERVAL = 0.2
FIVE_A_SECOND = [{"class": "HardJob", "rate": "5/s"}]


@pytest.fixture
def fleet(store: RedisStore) -> Fleet:
    store.lease(ME, 60_000, register=True)
    return Fleet(store, FIVE_A_SECOND)


def test_a_start_is_at_its_time_though_the_job_before_it_runs_before_the_line_knows_that_it_left(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At 50/s some starts came up to a second late.

    The thread of the lines lets a job go, and looks again in a second if nothing takes the job. The consumer
    took it before that answer came, and set the timer of the next start. The answer put the start off.
    """
    lines = Lines(fleet.client, fleet.limits, lambda: ME)
    gates = fleet.limits.gates(SidekiqJob.parse(job(jid="any")), "default")
    # Given a job that runs, and two that wait
    assert [fleet.take(job(jid=jid)) for jid in ("runs", "next", "last")] == [True, False, False]
    now, look = fleet.answer[1:3]
    lines.follow(gates, float(now), float(look), waits=True)
    # When the consumer takes the one that leaves the line before the thread of the lines has its answer
    run, took = scripts.run, []

    def run_slowly(client: Any, called: Any, *others: Any) -> Any:
        answers = run(client, called, *others)
        if called[0].script is lua.load("limit_advance") and fleet.client.llen("queue:default") and not took:
            took.append(fleet.next())
            lines.follow(gates, float(fleet.answer[1]), float(fleet.answer[2]), waits=False)
        return answers

    monkeypatch.setattr(scripts, "run", run_slowly)
    pauses = []
    wait_for(lambda: pauses.append(lines.round()) or took, "the job that leaves the line")
    # Then the line moves on at the next start
    assert took == [("next", True)]
    assert pauses[-1] <= INTERVAL


def test_a_timer_that_is_set_while_another_one_is_due_is_kept(fleet: Fleet) -> None:
    gates, starts = fleet.limits.gates(SidekiqJob.parse(job(jid="any")), "default"), NextStarts()
    assert starts.set(gates, 10.0)
    assert starts.set(gates, 11.0)
    assert starts.first() == 10.0
    assert list(starts.due(10.5)) == ["HardJob:all"]
    assert starts.first() is None
    starts.set(gates, 11.0)
    assert starts.due(10.5) == {}
    assert starts.first() == 11.0
