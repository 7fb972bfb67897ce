"""A machine out of files or disk, or wrong about the time; and stock Sidekiq beside the bridge."""

from __future__ import annotations

import resource
import time

import pytest

from tests.faults.report import Report
from tests.faults.rig import Rig, seconds_until
from tests.faults.settle import settle, settle_once
from tests.support.stock_sidekiq import StockSidekiq
from tests.support.waiting import holds_for, wait_for


def test_a_log_that_cannot_be_written_stops_no_job(rig: Rig, report: Report) -> None:
    for name in ("own1", "prefork"):
        rig.workers.pop(name).terminate()
    worker = rig.workers["own0"]
    # Native jobs write their ledger from within the worker, which may not let any file grow.
    with rig.feeding([("SleepJob", [0.05]), ("FailOnceJob", [])]):
        rig.wait_more_done(10)
        _, hard = resource.prlimit(worker.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, (1, hard))
        try:
            written = len(worker.log)
            rig.wait_more_done(40)
            assert len(worker.log) == written
        finally:
            resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, (hard, hard))
        rig.wait_more_done(10)
        wait_for(lambda: len(worker.log) > written, "the log to go on", 20)

    assert worker.process.is_alive
    settle_once(rig, report, "51 the log's disk is full", None)


def test_a_worker_without_files_to_open_backs_off_and_comes_back(rig: Rig, report: Report) -> None:
    worker = rig.workers["own0"]
    # Native jobs open their ledger from within the worker, and fail like any job that finds no file.
    with rig.feeding([("SleepJob", [0.05]), ("SleepJob", [0.4]), ("FailOnceJob", [])]):
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
        identity = worker.identity
        recovery = seconds_until(lambda: rig.is_holding(identity), "the worker to take jobs again", 30)
        rig.wait_more_done(20)

    settle_once(rig, report, "52 no file descriptors left, 3 s", recovery)


@pytest.mark.parametrize("offset", ["+3600", "-3600"])
def test_a_worker_with_a_wrong_clock_is_on_time(rig: Rig, report: Report, offset: str) -> None:
    for name in ("own0", "own1", "prefork"):
        rig.workers.pop(name).terminate()
    worker = rig.new_worker("wrong", env=wall_clock(rig, offset))
    try:
        jid = rig.ruby.call("perform_in", job="SleepJob", seconds=4, args=[0])
        with rig.feeding():
            holds_for(lambda: not rig.ledger.events(jid), 2.5, "it is not due yet")
            late = seconds_until(lambda: rig.ledger.events(jid), "the scheduled job to run", 15)
            rig.wait_more_done(20)
        rig.pushed_path.write_text(f"{rig.pushed_path.read_text()}{jid} sure\n")
        assert worker.process.is_alive
        note = f"a job due in 4 s ran {2.5 + late:.1f} s after its push"
        settle_once(rig, report, f"36 the worker's clock is wrong by {offset} s", None, note)
    finally:
        worker.stop()


def test_a_clock_that_jumps_under_way_costs_nothing(rig: Rig, report: Report) -> None:
    for name in ("own0", "own1", "prefork"):
        rig.workers.pop(name).terminate()
    worker = rig.new_worker("jumping", env=wall_clock(rig, "0"))
    try:
        with rig.feeding():
            for offset in ("+3600", "-3600", "+86400", "0"):
                rig.wait_more_done(20)
                wall_clock(rig, offset)
            rig.wait_more_done(20)
        assert "FENCED" not in worker.log
        settle_once(rig, report, "7, 36 the worker's clock jumps by hours and a day", None)
    finally:
        worker.stop()


def wall_clock(rig: Rig, offset: str) -> dict[str, str]:
    """What makes ``time.time`` of a worker wrong by so many seconds; to be called again for a jump."""
    path = rig.directory / "clock"
    path.write_text(offset)
    return {"TEST_CLOCK": str(path)}


def test_stock_sidekiq_and_the_bridge_share_queues_while_bridges_die(rig: Rig, report: Report) -> None:
    stock = StockSidekiq(
        rig.root, rig.place, rig.redis_url, "-q", "high", "-q", "default", "-q", "low", "-c", "3"
    )
    # What a dead bridge ran in a sidecar may be taken over by stock Sidekiq, which asks no sidecar.
    rig.may_interrupt_ruby_jobs()
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
