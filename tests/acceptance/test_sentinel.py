"""A failover by Sentinel: the worker goes on at the new master, by itself and soon."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.support import census
from tests.support.certificates import Authority
from tests.support.command import Bridge
from tests.support.ledger import Ledger
from tests.support.probes import status
from tests.support.sentinels import Sentinels
from tests.support.stage import new_jid
from tests.support.waiting import wait_for, wait_until_equal
from tests.support.worker_process import WorkerProcess

#: What is promised, from the moment on at which the new master takes writes.
LIMIT_SECONDS = 10


@pytest.fixture(params=["clear", "tls"])
def sentinels(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Sentinels]:
    made = Sentinels(tmp_path, authority=Authority(tmp_path) if request.param == "tls" else None)
    yield made
    made.stop()


@pytest.fixture
def worker(sentinels: Sentinels, tmp_path: Path) -> Iterator[WorkerProcess]:
    env = {"BRIDGE_REDIS_URL": sentinels.url, "TEST_LEDGER_HOST": str(tmp_path / "ledger"), **sentinels.files}
    made = WorkerProcess(tmp_path, sentinels.master.url, f"unix://{tmp_path}/none.sock", env=env)
    yield made
    made.stop()


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "ledger")


def push(client: redis.Redis, job_class: str, *args: object) -> str:
    jid = new_jid()
    items = ",".join(f'"{arg}"' for arg in args)
    client.lpush("queue:default", f'{{"class":"{job_class}","args":[{items}],"jid":"{jid}","retry":true}}')
    return jid


@pytest.mark.parametrize("way", ["the master is killed", "the master is demoted"])
def test_a_worker_follows_a_failover_and_forgets_nothing(
    sentinels: Sentinels, worker: WorkerProcess, ledger: Ledger, way: str
) -> None:
    # Given a worker that runs one job and has run another
    old = sentinels.master
    with old.client() as client:
        running = push(client, "NativeGateJob", "open")
        ledger.wait_for("started", running)
        ledger.wait_for("done", push(client, "NativeEchoJob"))
        wait_until_equal(lambda: client.get("stat:processed"), b"1", "its settlement")
        wait_until_equal(lambda: client.wait(1, 1000), 1, "the replica's copy")

    # When the master goes, and the job ends meanwhile
    if way == "the master is killed":
        old.process.kill()
    else:
        sentinels.fail_over()
    ledger.open_gate("open")
    wait_for(lambda: sentinels.master is not old and sentinels.writable(), "another master", 40)
    recovered_at = time.monotonic()

    # Then the next job runs within the limit in the same process, and both are settled once
    with sentinels.master.client() as client:
        ledger.wait_for("done", push(client, "NativeEchoJob"), seconds=40)
        elapsed = time.monotonic() - recovered_at
        print(f"{way}: first job after {elapsed:.1f} s")
        assert elapsed < LIMIT_SECONDS
        wait_until_equal(lambda: client.get("stat:processed"), b"3", "all settlements", 20)
        wait_for(lambda: not census.inflight(client), "nothing in flight")
        assert ledger.events(running) == ["started", "done"]
        wait_until_equal(lambda: status(worker, "ready"), 200, "readiness", 20)
        assert worker.process.is_alive

    # and it ends in order
    assert worker.terminate() == 0


def test_sentinels_over_tls_are_verified_and_mistakes_are_named(tmp_path: Path) -> None:
    """``sentinel://`` reached sentinels in clear only, whatever files the settings named."""
    made = Sentinels(tmp_path, authority=Authority(tmp_path))
    others = tmp_path / "others"
    others.mkdir()
    right = {"BRIDGE_REDIS_URL": made.url, **made.files}
    # In clear, by another CA, and without a certificate of one's own
    wrong = [
        ({"BRIDGE_REDIS_URL": made.url.replace("sentinels:", "sentinel:")}, "sentinels://"),
        ({"BRIDGE_REDIS_CA": str(Authority(others).cert)}, "BRIDGE_REDIS_CA"),
        ({"BRIDGE_REDIS_CERT": "", "BRIDGE_REDIS_KEY": ""}, "sentinel://"),
    ]
    try:
        Bridge(right)("queues").well()
        for changes, cure in wrong:
            ended = Bridge({**right, **changes})("queues")
            assert ended.code != 0
            assert cure in ended.err
    finally:
        made.stop()
