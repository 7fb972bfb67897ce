"""Periodic jobs of sidekiq-cron go on without a Ruby Sidekiq process, and run once however many poll."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.processes import ROOT, Process
from tests.support.redis_server import RedisServer
from tests.support.ruby_root import RubyRoot
from tests.support.sidecar_process import SidecarProcess
from tests.support.stage import Stage
from tests.support.stock_sidekiq import StockSidekiq
from tests.support.waiting import wait_for

APP = ROOT / "tests/support/ruby/cron.rb"
POLLING = {"TEST_CRON_INTERVAL": "1", "TEST_POLL_INTERVAL": "1"}


@pytest.fixture
def periodic(redis_server: RedisServer, ruby_root: RubyRoot) -> Iterator[Stage]:
    """An app that uses sidekiq-cron; nothing is started yet."""
    with redis_server.client(11) as client:
        client.flushdb()
    stage = Stage(redis_server, ruby_root, database=11, jobs=APP)
    try:
        found = Process("gem", ruby_root.command("ruby", "-e", 'require "sidekiq-cron"'), stage.directory)
        status = found.wait()
        found.kill()
        if status != 0:
            pytest.skip("Debian has sidekiq-cron for Sidekiq 6.4 only")
        yield stage
    finally:
        stage.stop()


def enqueued(stage: Stage) -> int:
    """How many due times sidekiq-cron has marked as enqueued. One mark is set when a job is made."""
    marks = [stage.redis.zcard(f"cron_job:{name}:enqueued") for name in ("tick", "python")]
    return sum(max(0, count - 1) for count in marks)


def test_the_sidecar_polls_sidekiq_cron_and_the_worker_says_so(periodic: Stage) -> None:
    stage = periodic
    stage.start_sidecar(env=POLLING, arguments=("--workers", "2"), threads=2)
    worker = stage.start_worker()

    wait_for(lambda: stage.ledger.count("done") >= 4, "periodic jobs, in Ruby and in Python", 30)

    done = {(line["class"], *line["args"]) for line in stage.ledger.lines if line["event"] == "done"}
    assert done == {("EchoJob", "tick"), ("NativeEchoJob", "tock")}
    assert "periodic jobs: the sidecar runs the app's sidekiq-cron" in worker.log
    assert stage.sidecar is not None
    assert stage.sidecar.process.log.count("Polling sidekiq-cron") == 1, "one process of the sidecar polls"


def test_pollers_of_two_sidecars_and_a_ruby_process_enqueue_each_time_once(periodic: Stage) -> None:
    stage = periodic
    stage.start_sidecar(env=POLLING)
    other = Stage(stage.server, stage.root, database=stage.database, jobs=APP)
    ruby = second = None
    try:
        second = SidecarProcess(other.root, other.place, other.redis_url, require=APP, env=POLLING)
        ruby = StockSidekiq(
            *(stage.root, stage.place, stage.redis_url, "-q", "nothing", "-c", "1"), jobs=APP, env=POLLING
        )
        wait_for(lambda: enqueued(stage) >= 8, "eight due times", 40)
    finally:
        for part in (ruby, second, other):
            if part is not None:
                part.stop()
    assert stage.sidecar is not None
    stage.sidecar.stop()

    assert stage.redis.llen("queue:default") == enqueued(stage)


def test_a_sidecar_that_drains_polls_no_more(periodic: Stage) -> None:
    sidecar = periodic.start_sidecar(env=POLLING)
    wait_for(lambda: enqueued(periodic) >= 2, "the first due time", 30)

    sidecar.stop()

    assert sidecar.process.returncode == 0, sidecar.process.log
