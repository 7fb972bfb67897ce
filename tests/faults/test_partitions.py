"""Partitions of a real network, which delivers late what closed sockets had sent.

Workers run in a network namespace of their own. The way from there to Redis and to the sidecar leads through
a namespace that stops forwarding. Nothing is lost, and nothing runs twice.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.faults import network
from tests.faults.conftest import SAFE
from tests.faults.network import TO_SERVER, TO_WORKER, Network
from tests.faults.report import Report
from tests.faults.rig import Rig, seconds_until
from tests.faults.settle import settle, settle_once
from tests.support.redis_server import RedisServer
from tests.support.ruby_root import RubyRoot
from tests.support.tls_sidecar import TlsSidecar
from tests.support.waiting import holds_for, wait_for
from tests.support.worker_process import WorkerProcess

WHY_NOT = network.why_not()
pytestmark = pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))

BACK_SECONDS = 15


class FarRig(Rig):
    """A rig whose workers live behind links, except for those whose names begin with "near"."""

    def __init__(self, server: RedisServer, root: RubyRoot, far: Network) -> None:
        super().__init__(server, root)
        self.lease_seconds = 15
        self.network = far
        self.tls = TlsSidecar(self, self.directory, far.links["sidecar"].address, self.jobs)
        self._redis_at = f"redis://{far.links['redis'].address}:{server.port}/{self.database}"

    def new_worker(
        self, name: str, *flags: str, env: Mapping[str, str] | None = None, **options: Any
    ) -> WorkerProcess:
        self.worker_redis_url = self.redis_url if name.startswith("near") else self._redis_at
        wrapper = () if name.startswith("near") else self.network.wrapper
        settings = {**self.tls.worker_env, **(env or {})}
        return super().new_worker(name, *flags, env=settings, wrapper=wrapper, **options)

    def stop(self) -> None:
        self.tls.process.kill()
        super().stop()

    @property
    def late_claims(self) -> int:
        """How many claims Redis has refused because they came late."""
        found = self.redis.info("errorstats").get("errorstat_LATE", {})
        return int(found.get("count", 0))

    def wait_for_claims(self) -> None:
        """Workers take the backlog by claims. At first watches bring it, and settlements claim nothing."""
        before = self._commands()

        def only_claims() -> bool:
            nonlocal before
            claims, watches = self._commands()
            if watches != before[1]:
                before = (claims, watches)
            return claims - before[0] >= 16  # as many as both workers have slots

        wait_for(only_claims, "the workers to claim")

    def _commands(self) -> tuple[int, int]:
        """How many times Redis has taken jobs for a claim, and begun a watch."""
        stats = self.redis.info("commandstats")
        claims, watches = (stats.get(f"cmdstat_{name}", {}) for name in ("rpop", "blmove"))
        return claims.get("calls", 0), watches.get("calls", 0)

    def wait_for_late_claims(self, before: int, seconds: float) -> None:
        """The network has healed: TCP tries again after pauses that double."""
        wait_for(lambda: self.late_claims > before, "a claim of a closed socket to arrive", seconds)


@pytest.fixture(scope="module")
def far(ruby_root: RubyRoot) -> Iterator[FarRig]:
    made = Network("redis", "sidecar")
    address = made.links["redis"].address
    with tempfile.TemporaryDirectory(prefix="sb-far-") as directory:
        listen = ("--bind", "127.0.0.1", address, "--protected-mode", "no")
        server = RedisServer(Path(directory), *SAFE, *listen)
        rig = FarRig(server, ruby_root, made)
        try:
            rig.add_worker("far0")
            rig.add_worker("far1")
            yield rig
        finally:
            rig.stop()
            server.stop()
            made.remove()


@pytest.fixture
def rig(far: FarRig) -> FarRig:
    far.clean()
    return far


def assert_nothing_counted(rig: Rig) -> None:
    """No job was taken for one that its worker's death may be the fault of."""
    assert not list(rig.redis.scan_iter("bridge:recovered:*"))
    assert rig.redis.zcard("dead") == 0


def cut(rig: FarRig, link: str, seconds: float, direction: str | None = None, *, backlog: int = 0) -> float:
    """Cut one link under load. Returns how long it takes after the healing until jobs are done again.

    ``backlog``: that many more jobs wait in a queue then, so each worker claims with every settlement.
    """
    with rig.feeding():
        rig.wait_more_done(20)
        for _ in range(backlog):
            rig.push("NativeSleepJob", 0.4)
        if backlog:
            rig.wait_for_claims()
        with rig.network.links[link].cut(direction):
            time.sleep(seconds)
        recovery = seconds_until_more(rig)
        rig.wait_more_done(20)
    return recovery


def seconds_until_more(rig: Rig) -> float:
    wanted = rig.done + 5
    return seconds_until(lambda: rig.done >= wanted, "jobs to be done again", 60)


@pytest.mark.parametrize("seconds", [pytest.param(10, marks=pytest.mark.short), 20, 35, 60])
@pytest.mark.timeout(400)
def test_claims_that_a_healed_network_delivers_take_no_job(rig: FarRig, report: Report, seconds: int) -> None:
    """After 35 s, 31 jobs stayed in flight under tokens that living, idle workers had forgotten."""
    before = rig.late_claims
    # With free slots, watches take the jobs: a worker that is cut off then has sent no claim.
    recovery = cut(rig, "redis", seconds, backlog=240)
    if seconds < 60:  # for longer TCP does not try with a closed socket
        rig.wait_for_late_claims(before, 2 * seconds + 10)

    settle_once(rig, report, f"55 no network to Redis, {seconds} s, late delivery", recovery)
    assert_nothing_counted(rig)
    assert recovery < BACK_SECONDS
    # Nothing comes afterwards, either.
    holds_for(rig._is_empty, 5, "nothing in flight")


@pytest.mark.parametrize("direction", [TO_SERVER, TO_WORKER])
@pytest.mark.timeout(300)
def test_a_network_that_loses_one_direction_is_survived(rig: FarRig, report: Report, direction: str) -> None:
    recovery = cut(rig, "redis", 20, direction)

    settle_once(rig, report, f"55 no packets {direction} (Redis), 20 s", recovery)
    assert_nothing_counted(rig)


@pytest.mark.timeout(300)
def test_many_short_partitions_in_a_row_are_survived(rig: FarRig, report: Report) -> None:
    with rig.feeding():
        rig.wait_more_done(20)
        for seconds in (0.5, 3, 6, 1, 8, 4):
            with rig.network.links["redis"].cut():
                time.sleep(seconds)
            time.sleep(2)
        recovery = seconds_until_more(rig)
        rig.wait_more_done(20)

    settle_once(rig, report, "55 six partitions of 0.5 to 8 s", recovery)
    assert_nothing_counted(rig)


@pytest.mark.timeout(300)
def test_a_partitioned_worker_whose_jobs_others_took_settles_none_of_them(
    rig: FarRig, report: Report
) -> None:
    """What its closed sockets had sent arrives after another worker has taken its jobs over."""
    rig.ended |= {rig.workers[name].pid for name in ("far0", "far1")}
    rig.add_worker("near", env={"BRIDGE_LEASE_SECONDS": "15"})
    try:
        recovery = cut(rig, "redis", 40)
        settle(rig, report, "55 no network to Redis for two workers, 40 s; a third takes over", recovery)
        assert rig.redis.zcard("dead") == 0
    finally:
        rig.workers.pop("near").terminate()


@pytest.mark.parametrize("seconds", [pytest.param(10, marks=pytest.mark.short), 30, 60])
@pytest.mark.timeout(400)
def test_a_sidecar_behind_a_broken_network_begins_no_job_twice(
    rig: FarRig, report: Report, seconds: int
) -> None:
    """Frames of closed streams arrive after the worker has had their jobs started elsewhere, or again."""
    recovery = cut(rig, "sidecar", seconds)
    time.sleep(min(seconds, 20))  # for TCP to try again

    settle_once(rig, report, f"55 no network to the sidecar, {seconds} s", recovery)
    assert rig.redis.zcard("dead") == 0


@pytest.mark.timeout(300)
def test_frames_for_one_of_two_sidecars_arrive_after_the_other_has_run_their_jobs(
    rig: FarRig, report: Report
) -> None:
    second = rig.add_sidecar("car0", arguments=("--secret-file", str(rig.tls.secrets["sidecar"])))
    try:
        rig.add_worker("two", env={"BRIDGE_SIDECAR_URL": f"{rig.tls.url},{second.url}"})
        recovery = cut(rig, "sidecar", 45)
        time.sleep(20)
        settle_once(rig, report, "55 no network to one of two sidecars, 45 s", recovery)
    finally:
        rig.workers.pop("two").terminate()
        rig.sidecars.pop("car0")
        second.stop()
