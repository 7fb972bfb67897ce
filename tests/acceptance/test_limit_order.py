"""Jobs that wait at a limit begin in the order in which they left their queue, over all workers."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

import pytest

from tests.support.limit_fleet import LimitFleet, most_overtaken
from tests.support.waiting import wait_for

JOBS = 10_000
WORKERS, SLOTS = 3, 20
LINE = "bridge:waiting:NativeEchoJob:all"


def limit(cap: int) -> list[dict[str, object]]:
    return [{"class": "NativeEchoJob", "concurrency": cap}]


def order_of(fleet: LimitFleet, jids: Sequence[str]) -> list[int]:
    """The number of each job, as they began."""
    number_of = {jid: number for number, jid in enumerate(jids)}
    lines = sorted(fleet.ledger.lines, key=lambda line: line["at"])
    return [number_of[line["jid"]] for line in lines if line["jid"] in number_of]


@pytest.mark.parametrize("cap", [1, 3])
@pytest.mark.parametrize("first", ["workers", "jobs"])
def test_thousands_of_jobs_begin_in_the_order_of_their_queue(fleet: LimitFleet, cap: int, first: str) -> None:
    """Workers parked their claims side by side, and the later claim could take the free place."""
    jids = fleet.push("NativeEchoJob", JOBS, 0) if first == "jobs" else []
    for _ in range(WORKERS):
        fleet.start(limit(cap), concurrency=SLOTS)
    jids = jids or fleet.push("NativeEchoJob", JOBS, 0)
    fleet.wait_done(jids, 240)
    order = order_of(fleet, jids)
    assert len(order) == JOBS
    assert most_overtaken(order) < cap


def test_only_jobs_in_flight_leave_their_order_when_a_worker_is_killed(fleet: LimitFleet) -> None:
    count = 3000
    jids = fleet.push("NativeEchoJob", count, 0)
    for _ in range(WORKERS):
        fleet.start(limit(1), concurrency=SLOTS)
    wait_for(lambda: fleet.ledger.size > 300, "progress", 60)
    fleet.kill(fleet.workers[0])
    fleet.wait_done(jids, 120)
    order = order_of(fleet, jids)
    assert len(set(order)) == count
    # The killed worker may have held a claim whose jobs had not asked for their places.
    assert out_of_order(order) <= SLOTS


def out_of_order(order: Sequence[int]) -> int:
    """How many jobs must be left out so that the others are in order."""
    ends: list[int] = []
    for number in order:
        place = bisect_left(ends, number)
        ends[place : place + 1] = [number]
    return len(order) - len(ends)
