from __future__ import annotations

import json
import time
from types import SimpleNamespace
from typing import Any

import pytest

from bridge.sidekiq.fetch import batch_delay
from bridge.sidekiq.fetch.batch_delay import LOOKED_AT
from bridge.sidekiq.fetch.fetcher import Fetcher
from bridge.sidekiq.fetch.unit_of_work import Delivery, UnitOfWork
from bridge.sidekiq.payload.job import SidekiqJob
from bridge.sidekiq.store.effects import SettlementEffects


def unit(waited_ms: float, run_ms: float | None = 5.0) -> UnitOfWork:
    raw = json.dumps({"class": "HardJob", "args": [], "jid": "a" * 24}).encode()
    seconds = (waited_ms + (run_ms or 0.0)) / 1000
    delivery = Delivery("h:1:a", 1, "default", raw, 0)
    return UnitOfWork(delivery, SidekiqJob.parse(raw), 1000.0, 5.0, seconds, run_ms)


def fetcher_with(*units: UnitOfWork) -> Fetcher:
    """A fetcher with one slot, which has let go of these jobs."""
    store: Any = SimpleNamespace(effects=SettlementEffects())
    nothing: Any = None
    fetcher = Fetcher(store, nothing, nothing, slots=1)
    for each in units:
        fetcher.in_flight.held[1] = each
        each.began = time.monotonic() - (each.run_seconds or 0.0)
        fetcher.in_flight.release(1)
    return fetcher


def delay_after(*units: UnitOfWork) -> float:
    return batch_delay.seconds(fetcher_with(*units).in_flight.slot_waits)


@pytest.mark.parametrize(
    ("waited_ms", "delay_ms"),
    [(0.0, 0.0), (2.4, 0.0), (2.6, 1.04), (20.0, 8.0), (45.0, 18.0), (9000.0, 20.0)],
)
def test_a_free_slot_may_wait_for_less_than_half_of_what_jobs_wait_behind_slots(
    waited_ms: float, delay_ms: float
) -> None:
    found = delay_after(*[unit(waited_ms)] * LOOKED_AT)

    assert found == pytest.approx(delay_ms / 1000, abs=0.0002)


@pytest.mark.parametrize("other", [unit(0.0), unit(45.0, run_ms=None)], ids=["did not wait", "native"])
def test_one_job_that_did_not_wait_or_cannot_tell_ends_the_delay(other: UnitOfWork) -> None:
    assert delay_after(*[unit(45.0)] * LOOKED_AT, other) == 0.0


def test_few_jobs_say_nothing_about_the_next() -> None:
    assert delay_after(*[unit(45.0)] * (LOOKED_AT - 1)) == 0.0


def test_a_worker_looks_away_only_while_all_its_slots_are_full() -> None:
    fetcher = fetcher_with(*[unit(45.0)] * LOOKED_AT)
    with_a_free_slot = fetcher.in_flight.batch_delay_seconds
    fetcher.in_flight.held[1] = unit(0.0)
    full = fetcher.in_flight.batch_delay_seconds
    fetcher.quiet()

    assert (with_a_free_slot, full, fetcher.in_flight.batch_delay_seconds) == pytest.approx(
        (0.0, 0.018, 0.0), abs=0.0002
    )
