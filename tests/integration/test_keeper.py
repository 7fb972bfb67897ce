"""The keeper: a real child process that renews the lease, ends it with its worker, and may itself hang."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import Mock

import pytest
import redis

from bridge import errors
from bridge.redis.client import RedisAddress
from bridge.redis.minimal_client import MinimalRedis
from bridge.sidekiq.lease import keeper as keeper_process
from bridge.sidekiq.lease.keeper import PACKAGE_ROOT, Keeper
from bridge.sidekiq.lease.keeper_main import LeaseKeys, Watch
from tests.integration.worker import Worker, job, push
from tests.support.redis_server import RedisServer
from tests.support.waiting import holds_for, wait_for

NAME = "host:1:abc"


@pytest.fixture
def keeper(redis_server: RedisServer, empty_redis: redis.Redis) -> Iterator[Keeper]:
    made = Keeper(RedisAddress(port=redis_server.port, database=15), 3.0)
    yield made
    made.stop(lease_ended=True)


def child(keeper: Keeper) -> int:
    assert keeper._process is not None
    return keeper._process.pid


def test_it_renews_while_it_is_told_of_progress(keeper: Keeper, worker: Worker) -> None:
    worker.store.lease(NAME, 3000, register=True)
    first = worker.client.zscore("bridge:lease", NAME) or 0.0

    keeper.report(NAME, 1)

    wait_for(lambda: (worker.client.zscore("bridge:lease", NAME) or 0.0) > first, "a later end")


def test_the_end_of_its_worker_frees_the_jobs_at_once(keeper: Keeper, worker: Worker) -> None:
    push(worker.client, "default", payload := job())
    worker.take()
    keeper.report(worker.identity, 1)
    wait_for(lambda: worker.client.client_list()[1:], "the keeper's connection")

    keeper.stop(lease_ended=True)

    wait_for(lambda: worker.client.zscore("bridge:lease", worker.identity) == 0.0, "the lease's end", 2)
    other = Worker("other:1", worker.client.connection_pool.connection_kwargs["port"], 15)
    other.reaper.round()
    assert other.client.lrange("queue:default", 0, -1) == [payload]
    other.close()


def test_a_keeper_that_was_killed_is_replaced(keeper: Keeper) -> None:
    keeper.report(NAME, 1)
    killed = child(keeper)

    os.kill(killed, signal.SIGKILL)

    wait_for(lambda: keeper.report(NAME, 2) or child(keeper) != killed, "another keeper")


def test_a_keeper_that_hangs_is_replaced_and_never_waited_for(keeper: Keeper) -> None:
    """Its pipe filled up, and the thread that renews the lease waited for ever for room in it."""
    keeper.report(NAME, 1)
    hanging = child(keeper)
    os.kill(hanging, signal.SIGSTOP)
    slowest = 0.0

    for turn in range(1000):
        started = time.monotonic()
        keeper.report(NAME, turn)
        slowest = max(slowest, time.monotonic() - started)
        if keeper._process is None:
            break

    keeper.report(NAME, 1000)
    assert child(keeper) != hanging
    assert slowest < keeper_process.STOP_SECONDS


@pytest.mark.parametrize("error", [BlockingIOError(11, "EAGAIN"), subprocess.SubprocessError("no memory")])
def test_a_keeper_that_cannot_be_started_costs_a_warning_and_not_the_lease(
    keeper: Keeper,
    worker: Worker,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
) -> None:
    """The error ended each round before the lease was renewed, and it ran out while jobs ran."""
    worker.take()
    worker.reaper.report = keeper.report
    with monkeypatch.context() as broken:
        broken.setattr(subprocess, "Popen", Mock(side_effect=error))
        worker.now += 6
        worker.reaper.round()
        before = worker.client.zincrby("bridge:lease", -1000, worker.identity)
        worker.now += 6
        worker.reaper.round()

    assert (worker.client.zscore("bridge:lease", worker.identity) or 0.0) > before
    assert f"the keeper of the lease cannot be started ({error})" in caplog.text
    worker.reaper.round()
    assert os.path.exists(f"/proc/{child(keeper)}")


def test_a_keeper_that_is_gone_before_its_first_line_costs_a_warning(
    keeper: Keeper, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(keeper, "_write", Mock(side_effect=BrokenPipeError))

    keeper.report(NAME, 1)

    assert keeper._process is None
    assert "cannot be started" in caplog.text


def test_a_keeper_that_does_not_die_is_no_error(
    keeper: Keeper, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    keeper.report(NAME, 1)
    immortal = keeper._process
    assert immortal is not None
    expired = subprocess.TimeoutExpired("keeper", keeper_process.STOP_SECONDS)
    monkeypatch.setattr(immortal, "wait", Mock(side_effect=expired))
    monkeypatch.setattr(keeper, "_write", Mock(side_effect=BlockingIOError))

    keeper.report(NAME, 2)

    assert keeper._process is None
    assert f"process {immortal.pid}, does not die" in caplog.text


def test_the_lease_is_kept_before_the_keeper_is_told_and_it_is_told_in_an_outage_too(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []

    def keep() -> None:
        done.append("kept")
        raise errors.StoreUnavailable("away")

    worker.take()
    worker.now += 6
    monkeypatch.setattr(worker.lease, "keep", keep)
    worker.reaper.report = lambda identity, progress: done.append(identity)

    with pytest.raises(errors.StoreUnavailable):
        worker.reaper.round()

    assert done == ["kept", worker.identity]


def test_a_file_named_as_a_module_in_the_working_directory_does_not_end_the_keeper(
    keeper: Keeper, worker: Worker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Celery puts the working directory first: a json.py there ended each keeper at its start."""
    for name in ("json", "select", "signal"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('taken for the library')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    worker.store.lease(NAME, 3000, register=True)
    first = worker.client.zscore("bridge:lease", NAME) or 0.0

    keeper.report(NAME, 1)

    wait_for(lambda: (worker.client.zscore("bridge:lease", NAME) or 0.0) > first, "a later end")


def test_the_keeper_finds_a_package_that_is_in_the_workers_working_directory_alone(
    keeper: Keeper, worker: Worker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Each ended at its start, and another was started every second: ``celery -A bridge`` in a checkout."""
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path not in ("", PACKAGE_ROOT)])
    monkeypatch.chdir(tmp_path)
    worker.store.lease(NAME, 3000, register=True)
    first = worker.client.zscore("bridge:lease", NAME) or 0.0

    keeper.report(NAME, 1)

    wait_for(lambda: (worker.client.zscore("bridge:lease", NAME) or 0.0) > first, "a later end")


def test_the_keeper_has_nothing_of_the_workers_standard_output(keeper: Keeper) -> None:
    """It kept ``celery worker | tee log`` open for two minutes after the worker's end."""
    keeper.report(NAME, 1)

    assert os.readlink(f"/proc/{child(keeper)}/fd/1") == "/dev/null"
    assert os.readlink(f"/proc/{child(keeper)}/fd/2") != "/dev/null"


def test_a_keeper_that_hangs_does_not_hold_up_the_end(
    keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper_process, "STOP_SECONDS", 0.2)
    keeper.report(NAME, 1)
    hanging = child(keeper)
    os.kill(hanging, signal.SIGSTOP)

    keeper.stop(lease_ended=True)

    wait_for(lambda: not os.path.exists(f"/proc/{hanging}"), "its end")


def kept(server: RedisServer, make_worker: Callable[..., Worker]) -> tuple[Worker, Keeper]:
    """A worker with a job, and its keeper, on a Redis that forgets nothing when it is killed."""
    server.arguments = ("--appendonly", "yes", "--appendfsync", "always")
    server.stop()
    server.start()
    worker = make_worker(server.port)
    push(worker.client, "default", job())
    worker.take()
    keeper = Keeper(RedisAddress(port=server.port), 15.0)
    keeper.report(worker.identity, 1)
    wait_for(lambda: worker.client.client_list()[1:], "the keeper's connection")
    return worker, keeper


def test_a_worker_that_dies_while_redis_is_away_is_reported_when_redis_is_back(
    own_server: RedisServer, make_worker: Callable[..., Worker]
) -> None:
    # The keeper gave up at the first refusal, and the jobs waited for the end of the lease and more.
    worker, keeper = kept(own_server, make_worker)

    own_server.process.kill()
    pipe = keeper._process
    assert pipe is not None
    assert pipe.stdin is not None
    pipe.stdin.close()
    holds_for(lambda: pipe.poll() is None, 1, "the keeper waits")
    own_server.start()

    wait_for(lambda: worker.client.zscore("bridge:lease", worker.identity) == 0.0, "the lease's end", 5)
    wait_for(lambda: pipe.poll() == 0, "the keeper's end")


def test_a_lease_that_could_not_be_ended_is_left_to_the_keeper(
    own_server: RedisServer, make_worker: Callable[..., Worker]
) -> None:
    """A clean stop while Redis was away killed the keeper, and the jobs waited out the lease."""
    worker, keeper = kept(own_server, make_worker)
    own_server.process.kill()
    worker.fetcher.lease.leave()
    assert not worker.fetcher.lease.ended
    left = keeper._process
    assert left is not None

    keeper.stop(lease_ended=False)
    own_server.start()

    wait_for(lambda: worker.client.zscore("bridge:lease", worker.identity) == 0.0, "the lease's end", 5)
    wait_for(lambda: left.poll() == 0, "the keeper's end")


def test_a_keeper_waits_for_redis_within_bounds(own_server: RedisServer) -> None:
    lease = LeaseKeys(MinimalRedis(RedisAddress(port=own_server.port)), {"end": ("", "")})
    watch = Watch(lease, 15_000, identity=NAME)
    own_server.process.kill()
    pauses: list[float] = []

    assert not watch.end(3.0, clock=lambda: sum(pauses), sleep=pauses.append)

    assert sum(pauses) == 3.0
