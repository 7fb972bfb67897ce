"""Reports: the logs of a failed test, a shared error once, and in CI no skip for want of a program."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.processes import RUNNING

LOG_CHARACTERS = 6000
#: Reasons for a skip that name something which scripts/setup installs, or a right that root has.
_MISSING = re.compile(r"not installed|could not import|needs Ruby|no ruby|may not make|no /proc", re.I)

#: The first test that reported each error of a fixture.
_first_reported: dict[tuple[str, ...], str] = {}


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: Any, call: Any) -> Iterator[None]:
    """Show what the processes wrote during a test that failed."""
    outcome: Any = yield
    report = outcome.get_result()
    if report.skipped and os.environ.get("CI"):
        _fail_if_left_out(report)
    if report.when == "teardown":
        return
    for process in list(RUNNING):
        # An error in this hook ends the whole run as an internal error of pytest.
        try:
            text = process.unseen_log()[-LOG_CHARACTERS:]
        except OSError as error:
            text = f"(its log cannot be read: {error})"
        if report.failed and text:
            report.sections.append((f"log of {process.name} (pid {process.pid})", text))
    if report.failed and report.when == "setup":
        _fold(item, call, report)


def _fail_if_left_out(report: Any) -> None:
    """A skip for want of a program would hide in CI that setup forgot it."""
    reason = report.longrepr[-1] if isinstance(report.longrepr, tuple) else ""
    if _MISSING.search(reason):
        report.outcome = "failed"
        report.longrepr = f"skipped, but CI must have what it needs: {reason}"


def _fold(item: Any, call: Any, report: Any) -> None:
    """One error may fail many tests: the first report shows it, and the others name the first."""
    error = _identity(call.excinfo)
    first = _first_reported.setdefault(error, item.nodeid)
    if first != item.nodeid:
        report.longrepr = f"the same error in a fixture as before {first}: {error[0]}: {error[1]}"
        report.sections.clear()


def _identity(excinfo: Any) -> tuple[str, ...]:
    """Kind, first line and place of an error; pids, ports and paths of one attempt do not count."""
    lines = str(excinfo.value).splitlines() or [""]
    place = excinfo.traceback[-1]
    return (
        excinfo.typename,
        re.sub(r"0x[0-9a-f]+|\d+", "N", lines[0])[:200],
        f"{os.fspath(place.path)}:{place.lineno}",
    )
