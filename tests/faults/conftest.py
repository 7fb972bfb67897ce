"""A stack for each module of faults, and the report of what became of the jobs."""

from __future__ import annotations

import os
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.report import Report
from tests.faults.rig import Rig
from tests.support.redis_server import RedisServer
from tests.support.ruby_root import RubyRoot

#: "all" runs every fault; otherwise only those that are marked as short.
WHICH = "FAULTS"
SEED = "BRIDGE_FAULTS_SEED"
#: Every write is on disk before its answer, so what Redis has confirmed survives its own death.
#: A file that may not grow is an error to be answered, and not the end of the process.
NO_SIGNAL = ("env", "--ignore-signal=XFSZ")
SAFE = ("--save", "", "--appendonly", "yes", "--appendfsync", "always")

REPORT = Report()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Without FAULTS=all the long ones are left out. They come last: their stack lives till the end."""
    here = Path(__file__).parent
    faults = [item for item in items if here in item.path.parents]
    if os.environ.get(WHICH) != "all":
        config.hook.pytest_deselected(items=[item for item in faults if not _is_short(item)])
        faults, left_out = [item for item in faults if _is_short(item)], faults
    else:
        left_out = faults
    items[:] = [item for item in items if item not in left_out] + faults


def _is_short(item: pytest.Item) -> bool:
    return item.get_closest_marker("short") is not None


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """The table, and the file of it."""
    if REPORT.lines:
        terminalreporter.section("faults")
        for line in REPORT.table():
            terminalreporter.write_line(line)
        REPORT.write()


@pytest.fixture
def report() -> Report:
    return REPORT


@pytest.fixture
def seed() -> int:
    """Of all chance in a test; printed when it fails, and given with BRIDGE_FAULTS_SEED to repeat it."""
    chosen = int(os.environ.get(SEED) or random.SystemRandom().randrange(10**6))
    print(f"{SEED}={chosen}")
    return chosen


@pytest.fixture(scope="session")
def stack(ruby_root: RubyRoot) -> Iterator[Rig]:
    """Redis, two sidecars of two Puma workers each, three workers of different pools."""
    with tempfile.TemporaryDirectory(prefix="sb-aof-") as directory:
        server = RedisServer(Path(directory), *SAFE, wrapper=NO_SIGNAL)
        rig = Rig(server, ruby_root)
        try:
            build(rig)
            yield rig
        finally:
            rig.stop()
            server.stop()


def build(rig: Rig) -> None:
    for name in ("car0", "car1"):
        if name not in rig.sidecars:
            rig.add_sidecar(name)
    for name, *flags in (("own0",), ("own1",), ("prefork", "-P", "prefork")):
        if name not in rig.workers:
            rig.add_worker(name, *flags, concurrency=4 if flags else 8)


@pytest.fixture
def rig(stack: Rig) -> Rig:
    """The module's stack, whole again whatever the test before did to it."""
    if not stack.server.process.is_alive:
        stack.server.start()
    for parts in (stack.sidecars, stack.workers):
        for name, part in list(parts.items()):
            if not part.process.is_alive:
                part.process.kill()
                del parts[name]  # type: ignore[attr-defined]
    build(stack)
    stack.clean()
    return stack
