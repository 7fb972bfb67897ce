"""The arguments of a large native job are read right before its run, in the thread that runs it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bridge.fast_path import native
from bridge.sidekiq.fetch import unreadable
from bridge.sidekiq.fetch.unit_of_work import Delivery, UnitOfWork
from bridge.sidekiq.outcome.decision import Bury, Done
from bridge.sidekiq.payload.job import SidekiqJob
from tests.support.unstarted_worker import TOKENS, Worker

RECORD = {"id": 1, "name": "a" * 40, "tags": ["b"]}
FIELDS = {"retry": True, "queue": "q", "class": "SumJob", "args": [[RECORD] * 60, "end"]}


@pytest.fixture
def worker() -> Worker:
    return Worker()


def held(worker: Worker, payload: bytes) -> UnitOfWork:
    """A large job that was just claimed by a worker with the own pool."""
    job = worker.bridge.fetcher.in_flight.reader.claimed(payload)
    delivery = Delivery(worker.bridge.lease.identity, next(TOKENS), "q", payload, 1000)
    unit = worker.bridge.fetcher.in_flight.held[delivery.token] = UnitOfWork(delivery, job)
    return unit


def large(**fields: Any) -> bytes:
    return json.dumps({**FIELDS, "jid": "0" * 24, **fields}, separators=(",", ":")).encode()


def run(worker: Worker, payload: bytes) -> list[Any]:
    """Run the job of this payload. Returns the arguments that its task got."""
    got: list[Any] = []

    @worker.app.task(name="SumJob", shared=False)
    def total(*args: Any) -> None:
        got.append(args)

    worker.plain("SumJob")  # from now on its way is known
    unit = held(worker, payload)
    assert unit.job.is_outline
    assert worker.take(unit)
    native.run(worker.begun.pop())
    return got


def test_a_large_native_job_gets_its_arguments(worker: Worker) -> None:
    assert run(worker, large()) == [([RECORD] * 60, "end")]
    assert worker.decisions == [Done()]


def test_the_arguments_of_a_job_that_has_run_are_freed_before_its_settlement(worker: Worker) -> None:
    """Twenty jobs of 100 KB were freed together at their settlement, which took twice as long."""
    run(worker, large())
    [(unit, _)] = worker.bridge.fetcher.journal.batch().decided
    assert unit.job.is_outline
    assert "args" not in unit.job.fields
    assert unit.job.args == json.loads(large())["args"]


def test_malformed_arguments_are_buried_as_at_a_claim_and_never_run(worker: Worker) -> None:
    payload = large().replace(b'"name":', b'"name"', 1)
    assert run(worker, payload) == []
    [decision] = worker.decisions
    assert isinstance(decision, Bury)
    assert (decision.payload, decision.ran) == (payload, False)
    assert decision.notice is not None


def test_an_observed_job_is_read_before_its_request_is_made(worker: Worker) -> None:
    ended: list[Any] = []
    reader = worker.bridge.fetcher.in_flight.reader
    reader.leave_arguments()
    is_readable = unreadable.reading(reader, lambda *ending: ended.append(ending))

    unit = held(worker, large())
    unit.job.is_outline = True
    assert is_readable(unit)

    broken = held(worker, large().replace(b'"name":', b'"name"', 1))
    broken.job.native_class = "Native"
    reader.needs_arguments = lambda job: True  # type: ignore[method-assign]
    assert not is_readable(broken)
    [(token, decision)] = ended
    assert token == broken.delivery.token
    assert isinstance(decision, Bury)


def test_other_pools_read_a_large_native_job_at_the_claim(worker: Worker) -> None:
    reader = worker.bridge.fetcher.in_flight.reader
    reader.needs_arguments = lambda job: True  # type: ignore[method-assign]
    assert not reader.claimed(large()).is_outline
    reader.leave_arguments()
    assert reader.claimed(large()).is_outline
    assert SidekiqJob.parse(large()).args == reader.claimed(large()).args
