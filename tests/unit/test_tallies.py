from __future__ import annotations

import json
import time
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest

from bridge.monitoring.metrics.jobs import JobSeries
from bridge.monitoring.metrics.tallies import MOST_CLASSES, OTHER, JobTallies
from bridge.sidekiq.fetch.unit_of_work import Delivery, UnitOfWork
from bridge.sidekiq.outcome.decision import Bury, Decision, Discard, Done, GiveBack, Interrupt, Retry
from bridge.sidekiq.payload.job import SidekiqJob
from bridge.sidekiq.store.settlement import Settled


def unit(*, started_at: float | None = 100.0, seconds: float = 0.2, **fields: Any) -> UnitOfWork:
    payload = json.dumps({"class": "HardJob", "jid": "j", "args": [], "enqueued_at": 97.0, **fields}).encode()
    began, ran = (None, None) if started_at is None else (5.0, seconds)
    delivery = Delivery("h:1:a", 1, "default", payload, 0)
    return UnitOfWork(delivery, SidekiqJob.parse(payload), started_at, began, ran)


def series(tallies: JobTallies, running: list[UnitOfWork] | None = None) -> dict[str, float]:
    """Every sample, by name and labels as they stand on the page."""
    registry = CollectorRegistry()
    registry.register(JobSeries(tallies, lambda: running or []))
    lines = generate_latest(registry).decode().splitlines()
    samples = (line.rpartition(" ") for line in lines if not line.startswith("#"))
    return {name: float(value) for name, _, value in samples}


def count(
    decision: Decision, given: UnitOfWork | None = None, outcome: Settled = Settled.OK
) -> dict[str, float]:
    tallies = JobTallies()
    tallies.settled(given or unit(), decision, outcome)
    return {name.partition("{")[0]: value for name, value in series(tallies).items() if value}


def test_a_job_that_was_done_counts_with_its_times() -> None:
    tallies = JobTallies()
    tallies.settled(unit(), Done(), Settled.OK)
    found = series(tallies)
    labels = 'queue="default",worker="HardJob"'
    assert found[f"sidekiq_jobs_executed_total{{{labels}}}"] == 1
    assert found[f"sidekiq_jobs_success_total{{{labels}}}"] == 1
    assert found[f"sidekiq_jobs_failed_total{{{labels}}}"] == 0
    assert found[f"sidekiq_job_latency_seconds_sum{{{labels}}}"] == 3.0
    assert found[f'sidekiq_job_runtime_seconds_bucket{{le="0.1",{labels}}}'] == 0
    assert found[f'sidekiq_job_runtime_seconds_bucket{{le="0.25",{labels}}}'] == 1
    assert found[f'sidekiq_job_runtime_seconds_bucket{{le="+Inf",{labels}}}'] == 1


def test_each_end_has_its_counter() -> None:
    assert count(Retry(1.0, b"{}"))["bridge_retries_scheduled_total"] == 1
    assert count(Bury(b"{}"))["bridge_jobs_dead_total"] == 1
    assert count(Discard())["bridge_jobs_discarded_total"] == 1
    for decision in (Retry(1.0, b"{}"), Bury(b"{}"), Discard()):
        assert count(decision)["sidekiq_jobs_failed_total"] == 1
    interrupted = count(Interrupt(b"{}"))
    assert interrupted["bridge_jobs_interrupted_total"] == 1
    assert "sidekiq_jobs_failed_total" not in interrupted


def test_what_was_given_back_has_not_been_executed() -> None:
    found = count(GiveBack())
    assert found == {"bridge_jobs_given_back_total": 1}


def test_what_expired_has_not_been_executed() -> None:
    assert count(Done(), unit(started_at=None)) == {"bridge_jobs_expired_total": 1}


def test_what_was_buried_unread_has_not_been_executed() -> None:
    found = count(Bury(b"{}", ran=False), unit(started_at=None))
    assert found == {"bridge_jobs_dead_total": 1}


def test_a_fenced_settlement_counts_as_nothing() -> None:
    assert count(Done(), outcome=Settled.FENCED) == {}


def test_milliseconds_of_sidekiq_8_are_understood() -> None:
    at = 1_700_000_000.0
    found = count(Done(), unit(started_at=at, enqueued_at=int(at * 1000) - 1500))
    assert found["sidekiq_job_latency_seconds_sum"] == 1.5


def test_classes_that_anybody_may_push_do_not_become_labels_without_end() -> None:
    tallies = JobTallies()
    for number in range(MOST_CLASSES + 50):
        tallies.settled(unit(**{"class": f"Job{number}"}), Done(), Settled.OK)
    tallies.settled(unit(**{"class": "J" * 10_000}), Done(), Settled.OK)
    tallies.settled(unit(**{"class": "Job1"}), Done(), Settled.OK)
    names = {name for _, name in tallies.by_label}
    assert len(names) == MOST_CLASSES + 1
    assert tallies.by_label["default", OTHER].succeeded == 51
    assert tallies.by_label["default", "Job1"].succeeded == 2


def test_a_running_job_shows_for_how_long_it_runs() -> None:
    first, second = unit(), unit()
    first.began = time.monotonic() - 50.0
    second.began = time.monotonic()
    found = series(JobTallies(), [first, second])
    assert 50 <= found['sidekiq_running_job_runtime_seconds{queue="default",worker="HardJob"}'] < 60


def test_a_poison_pill_is_a_death_of_its_own_kind() -> None:
    found = count(GiveBack(unknown_outcome=True), outcome=Settled.BURIED)
    assert found == {"bridge_jobs_dead_total": 1}
