"""kill -9 of whatever there is, at random moments, again and again, while real clients push."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator

import psutil
import pytest
import redis

from tests.faults.report import Report
from tests.faults.rig import LEASE_SECONDS, Rig
from tests.faults.settle import settle
from tests.support.waiting import NeverHappened, wait_for

DEFAULT_LEASE_SECONDS = 15
FLAGS: dict[str, tuple[str, ...]] = {"own0": (), "own1": (), "prefork": ("-P", "prefork")}
WORKERS = tuple(FLAGS)
SIDECARS = ("car0", "car1")


class Reaper:
    """Draws victims by a seed, kills them, and lets them be started again as a supervisor would."""

    def __init__(self, rig: Rig, seed: int) -> None:
        self.rig = rig
        self.chance = random.Random(seed)
        self.kills: Counter[str] = Counter()
        self._starting: list[threading.Event] = []
        self._kinds: dict[str, Callable[[], bool]] = {
            "worker": self._worker,
            "keeper": self._keeper,
            "pool process": self._pool_process,
            "sidecar": self._sidecar,
            "Puma worker": self._puma_worker,
            "Redis": self._redis,
        }

    def kill_one(self) -> None:
        """One kill; kinds whose victim is just being started are passed over."""
        kinds = self.chance.sample(sorted(self._kinds), len(self._kinds))
        for kind in kinds:
            with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError, StopIteration):
                if self._kinds[kind]():
                    self.kills[kind] += 1
                    return

    def pause(self) -> None:
        time.sleep(self.chance.uniform(0.1, 1.2))

    def wait_all_started(self) -> None:
        for started in self._starting:
            started.wait(60)

    def _worker(self) -> bool:
        name = self.chance.choice(WORKERS)
        worker = self.rig.workers.pop(name, None)
        if worker is None:
            return False
        self.rig.kill(worker.pid)
        worker.process.wait(10)
        flags = FLAGS[name]
        self._start(lambda: self.rig.add_worker(name, *flags, concurrency=4 if flags else 8))
        return True

    def _keeper(self) -> bool:
        name = self.chance.choice(WORKERS)
        if name not in self.rig.workers:
            return False
        os.kill(self.rig.keeper(name), signal.SIGKILL)
        return True

    def _pool_process(self) -> bool:
        if "prefork" not in self.rig.workers:
            return False
        children = self.rig.pool_children("prefork")
        if not children:
            return False
        self.rig.kill(self.chance.choice(children))
        return True

    def _sidecar(self) -> bool:
        name = self.chance.choice(SIDECARS)
        sidecar = self.rig.sidecars.pop(name, None)
        if sidecar is None:
            return False
        self.rig.kill(sidecar.process.pid)
        sidecar.process.kill()
        self._start(lambda: self.rig.add_sidecar(name))
        return True

    def _puma_worker(self) -> bool:
        name = self.chance.choice(SIDECARS)
        if name not in self.rig.sidecars:
            return False
        children = self.rig.puma_workers(name)
        if not children:
            return False
        self.rig.kill(self.chance.choice(children))
        return True

    def _redis(self) -> bool:
        self.rig.server.process.kill()
        time.sleep(self.chance.uniform(0.0, 0.5))
        self.rig.server.start()
        return True

    def _start(self, make: Callable[[], object]) -> None:
        started = threading.Event()
        threading.Thread(target=_until_it_works, args=(make, started), daemon=True).start()
        self._starting.append(started)


def _until_it_works(make: Callable[[], object], started: threading.Event) -> None:
    while not started.is_set():
        # Redis may be away just now, or the new process be killed at its birth.
        with contextlib.suppress(NeverHappened, OSError, redis.RedisError):
            make()
            started.set()
            break
        time.sleep(0.5)
    # The new process dies with the thread that started it, so this one lives on.
    threading.Event().wait()


@pytest.fixture
def patient(rig: Rig) -> Iterator[Rig]:
    """Workers with the default lease: while Redis dies every second, they may not renew a short one."""
    rig.lease_seconds = DEFAULT_LEASE_SECONDS
    restart_workers(rig)
    yield rig
    rig.lease_seconds = LEASE_SECONDS
    for name in list(rig.workers):
        rig.workers.pop(name).process.kill()


def restart_workers(rig: Rig) -> None:
    for name, flags in FLAGS.items():
        rig.workers.pop(name).terminate()
        rig.add_worker(name, *flags, concurrency=4 if flags else 8)


def rerun(rig: Rig) -> str:
    """What the kills of sidecars cost, and those of workers: their native jobs die with them."""
    classes = {line["jid"]: line["class"] for line in rig.ledger.lines}
    repeated = rig.account().repeated
    native = sum(count for jid, count in repeated.items() if classes[jid].startswith("Native"))
    return f"{native} native, {sum(repeated.values()) - native} Ruby"


@pytest.mark.parametrize(
    "kills",
    [
        pytest.param(12, marks=[pytest.mark.short, pytest.mark.timeout(300)]),
        pytest.param(100, marks=pytest.mark.timeout(600)),
    ],
)
def test_nothing_is_lost_whatever_is_killed(patient: Rig, report: Report, seed: int, kills: int) -> None:
    rig = patient
    reaper = Reaper(rig, seed)
    with rig.feeding(rate=25):
        rig.wait_more_done(10)
        for _ in range(kills):
            reaper.kill_one()
            reaper.pause()
        reaper.wait_all_started()
        killed_until = time.monotonic()
        rig.wait_more_done(30, 60)
        recovery = time.monotonic() - killed_until

    rig.wait_quiet(90)
    # Whoever was in dead hands three times was buried, as promised; a person lets it run again.
    buried = rig.redis.zcard("dead")
    rig.ruby.evaluate("Sidekiq::DeadSet.new.retry_all; nil")
    wait_for(lambda: not rig.redis.zcard("dead"), "the buried to run", 20)
    what = ", ".join(f"{count} {kind}" for kind, count in sorted(reaper.kills.items()))
    rig.wait_quiet(90)
    settle(rig, report, f"kill -9 at random, {sum(reaper.kills.values())} times (seed {seed})", recovery,
           f"{what}; ran again: {rerun(rig)}; {buried} buried as poison pills")  # fmt: skip
    assert sum(reaper.kills.values()) == kills
