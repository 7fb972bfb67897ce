"""A machine out of files or disk, or wrong about the time; and stock Sidekiq beside the bridge."""

from __future__ import annotations

import resource
import time
from pathlib import Path

import pytest

from tests.faults.report import Report
from tests.faults.rig import MODULE, Rig, seconds_until
from tests.faults.settle import settle, settle_once
from tests.support.processes import Process
from tests.support.stock_sidekiq import StockSidekiq
from tests.support.waiting import holds_for
from tests.support.worker_process import CELERY, bridge_environment

needs_faketime = pytest.mark.skipif(
    not list(Path("/usr/lib").glob("*/faketime/libfaketime.so.1")), reason="libfaketime is not installed"
)


def test_a_log_that_cannot_be_written_stops_no_job(rig: Rig, report: Report) -> None:
    env = bridge_environment(rig.worker_redis_url, None) | {
        "BRIDGE_QUEUES": "deaf",
        "BRIDGE_SIDECAR_URL": f"unix://{rig.sidecars['car0'].socket}",
        "TEST_LEDGER_HOST": str(rig.ledger.path),
    }
    command = f"exec {CELERY} -A {MODULE} worker -c 4 -l INFO >/dev/full 2>&1"
    worker = Process("deaf", ["sh", "-c", command], rig.directory, env=env)
    try:
        jids = [rig.push(name, 0, queue="deaf") for name in ("SleepJob", "NativeSleepJob") * 10]
        for jid in jids:
            rig.ledger.wait_for("done", jid, seconds=40)
        assert worker.is_alive
    finally:
        worker.stop()

    settle_once(rig, report, "51 the log's disk is full", None)


def test_a_worker_without_files_to_open_backs_off_and_comes_back(rig: Rig, report: Report) -> None:
    worker = rig.workers["own0"]
    with rig.feeding():
        rig.wait_more_done(20)
        _, hard = resource.prlimit(worker.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(worker.pid, resource.RLIMIT_NOFILE, (4, hard))
        try:
            rig.redis_wire.cut()
            for wire in rig.sidecar_wires.values():
                wire.cut()
            time.sleep(3)
        finally:
            resource.prlimit(worker.pid, resource.RLIMIT_NOFILE, (hard, hard))
        assert worker.process.is_alive
        key = f"bridge:inflight:{worker.identity}"
        recovery = seconds_until(lambda: rig.redis.exists(key), "the worker to take jobs again", 30)
        rig.wait_more_done(20)

    settle_once(rig, report, "52 no file descriptors left, 3 s", recovery)


@needs_faketime
@pytest.mark.parametrize("offset", ["+1h", "-1h"])
def test_a_worker_with_a_wrong_clock_is_on_time(rig: Rig, report: Report, offset: str) -> None:
    for name in ("own0", "own1", "prefork"):
        rig.workers.pop(name).terminate()
    worker = rig.new_worker("wrong", env=faked(rig, offset))
    try:
        jid = rig.ruby.call("perform_in", job="SleepJob", seconds=4, args=[0])
        with rig.feeding():
            holds_for(lambda: not rig.ledger.events(jid), 2.5, "it is not due yet")
            late = seconds_until(lambda: rig.ledger.events(jid), "the scheduled job to run", 10)
            rig.wait_more_done(20)
        assert worker.process.is_alive
        settle_once(
            rig, report, f"36 the worker's clock is {offset}", None, f"due job ran {late:.1f} s after 2.5 s"
        )
    finally:
        worker.stop()


@needs_faketime
def test_a_clock_that_jumps_under_way_costs_nothing(rig: Rig, report: Report) -> None:
    for name in ("own0", "own1", "prefork"):
        rig.workers.pop(name).terminate()
    worker = rig.new_worker("jumping", env=faked(rig, "+0"))
    clock = rig.directory / "clock"
    try:
        with rig.feeding():
            for offset in ("+1h", "-1h", "+1d", "+0"):
                rig.wait_more_done(20)
                clock.write_text(offset)
            rig.wait_more_done(20)
        assert "FENCED" not in worker.log
        settle_once(rig, report, "7, 36 the worker's clock jumps by hours and a day", None)
    finally:
        worker.stop()


def faked(rig: Rig, offset: str) -> dict[str, str]:
    """The wall clock of a process; the one that only ever goes on is the kernel's."""
    library = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
    (rig.directory / "clock").write_text(offset)
    return {
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(rig.directory / "clock"),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "DONT_FAKE_MONOTONIC": "1",
    }


def test_stock_sidekiq_and_the_bridge_share_queues_while_bridges_die(rig: Rig, report: Report) -> None:
    stock = StockSidekiq(
        rig.root, rig.place, rig.redis_url, "-q", "high", "-q", "default", "-q", "low", "-c", "3"
    )
    try:
        with rig.feeding([("SleepJob", [0.2]), ("SleepJob", [0.05])]):
            for name in ("own0", "own1"):
                rig.wait_for_jobs_in_hand(name)
                rig.kill(rig.workers[name].pid)
                rig.wait_more_done(30)
        rig.wait_quiet()
    finally:
        stock.stop()

    ours = {line["pid"] for line in rig.ledger.lines if line["event"] == "done"} - {stock.process.pid}
    assert stock.process.pid in {line["pid"] for line in rig.ledger.lines}
    assert ours
    settle(rig, report, "54 stock Sidekiq beside bridges that are killed", None)
