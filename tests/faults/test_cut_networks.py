"""The network to Redis or the sidecars: cut, half open, slow, losing answers. Nothing runs twice for it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest

from tests.faults.report import Report
from tests.faults.rig import LEASE_SECONDS, Rig, seconds_until
from tests.faults.settle import settle_once
from tests.faults.wire import Wire

BACK_SECONDS = 10


def redis_wires(rig: Rig) -> list[Wire]:
    return [rig.redis_wire]


def sidecar_wires(rig: Rig) -> list[Wire]:
    return list(rig.sidecar_wires.values())


WIRES: dict[str, Callable[[Rig], list[Wire]]] = {"Redis": redis_wires, "sidecars": sidecar_wires}
to_each = pytest.mark.parametrize("to", WIRES)


@contextlib.contextmanager
def all_of(states: list[AbstractContextManager[None]]) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for state in states:
            stack.enter_context(state)
        yield


def seconds_to_next_of_each_kind(rig: Rig) -> float:
    now = time.time()

    def both() -> bool:
        begun = {
            line["class"] for line in rig.ledger.lines if line["event"] == "started" and line["at"] > now
        }
        return {"SleepJob", "NativeSleepJob"} <= begun

    return seconds_until(both, "jobs of both kinds to be begun", 40)


@pytest.mark.short
@to_each
def test_a_connection_cut_at_any_moment_runs_nothing_twice(rig: Rig, report: Report, to: str) -> None:
    with rig.feeding():
        rig.wait_more_done(20)
        for _ in range(30):
            for wire in WIRES[to](rig):
                wire.cut()
            time.sleep(0.1)
        recovery = seconds_to_next_of_each_kind(rig)
        rig.wait_more_done(20)

    assert recovery < BACK_SECONDS
    assert rig.redis.zcard("dead") == 0
    settle_once(rig, report, f"31 all connections to {to} reset, 30 times", recovery)


@to_each
def test_a_network_that_is_down_is_waited_for(rig: Rig, report: Report, to: str) -> None:
    with rig.feeding(rate=20):
        rig.wait_more_done(20)
        with all_of([wire.down() for wire in WIRES[to](rig)]):
            time.sleep(4)
        recovery = seconds_to_next_of_each_kind(rig)
        rig.wait_more_done(20)

    assert recovery < BACK_SECONDS
    settle_once(rig, report, f"31 no network to {to}, 4 s", recovery)


@pytest.mark.short
def test_lost_answers_of_redis_run_and_count_nothing_twice(rig: Rig, report: Report) -> None:
    with rig.feeding():
        rig.wait_more_done(10)
        with rig.redis_wire.losing(every=10):
            rig.wait_more_done(40)
        rig.wait_more_done(20)

    assert rig.redis_wire.lost > 3
    settle_once(rig, report, "31 each tenth answer of Redis is lost", None)


def test_lost_answers_of_a_sidecar_run_nothing_twice(rig: Rig, report: Report) -> None:
    with rig.feeding():
        rig.wait_more_done(10)
        with all_of([wire.losing(every=10) for wire in sidecar_wires(rig)]):
            rig.wait_more_done(60)
        rig.wait_more_done(20)

    settle_once(rig, report, "31 each tenth answer of the sidecars is lost", None)


@to_each
def test_a_half_open_link_is_found_out(rig: Rig, report: Report, to: str) -> None:
    with rig.feeding(rate=20):
        rig.wait_more_done(20)
        with all_of([wire.stalled() for wire in WIRES[to](rig)]):
            time.sleep(LEASE_SECONDS * 2)
        recovery = seconds_to_next_of_each_kind(rig)
        rig.wait_more_done(20)

    assert recovery < BACK_SECONDS
    settle_once(rig, report, f"32 links to {to} half open for two leases, then reset", recovery)


@to_each
def test_a_slow_network_only_makes_it_slower(rig: Rig, report: Report, to: str) -> None:
    with rig.feeding(rate=10):
        with all_of([wire.slow(0.25) for wire in WIRES[to](rig)]):
            rig.wait_more_done(40, 60)
        rig.wait_more_done(20)

    settle_once(rig, report, f"32 half a second of latency to {to}", None)
