"""A server that all tests of a process share, and that died: one clear error, in the test in which it died.

The tests after it said "connection refused", each in hundreds of lines, and none said what had become of
the server.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from signal import Signals
from typing import Any

import pytest

from tests.support.processes import Process

LOG_CHARACTERS = 3000

#: The fixtures that give a shared server, and its process.
SHARED: dict[str, Process] = {}
#: What is known of the death of those that have died.
_deaths: dict[str, str] = {}
#: How many processes the kernel had killed for want of memory when this one began.
_killed_before = 0


def share(fixture: str, process: Process) -> None:
    """From now on a death of this process is an error."""
    global _killed_before
    SHARED[fixture] = process
    _killed_before = _killed_for_memory()


def forget(fixture: str) -> None:
    """Its end is wanted."""
    SHARED.pop(fixture, None)
    _deaths.pop(fixture, None)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: Any) -> None:
    """A test that needs a dead server fails at once, and points to the first report."""
    for fixture, death in _deaths.items():
        if fixture in item.fixturenames:
            pytest.fail(death.partition("\n")[0], pytrace=False)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: Any) -> Iterator[None]:
    """The first report after a death tells of it. Its test fails, even if it did not need the server."""
    outcome: Any = yield
    report = outcome.get_result()
    for fixture, process in SHARED.items():
        if fixture not in _deaths and not process.is_alive:
            _deaths[fixture] = _what_is_known(fixture, process, item.nodeid)
            report.sections.insert(0, (f"the end of {fixture}", _deaths[fixture]))
            if not report.failed:
                report.outcome, report.longrepr = "failed", _deaths[fixture].partition("\n")[0]


def _what_is_known(fixture: str, process: Process, nodeid: str) -> str:
    status = process.returncode or 0
    how = f"was killed by {Signals(-status).name}" if status < 0 else f"ended with status {status}"
    killed = _killed_for_memory() - _killed_before
    return (
        f"{fixture} (pid {process.pid}), which all tests of this process share, {how}, "
        f"in {nodeid} at the latest\n"
        f"processes that the kernel has killed for want of memory meanwhile: {killed}\n"
        f"the end of its log:\n{process.log[-LOG_CHARACTERS:]}"
    )


def _killed_for_memory() -> int:
    try:
        lines = Path("/proc/vmstat").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)
