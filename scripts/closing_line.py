"""The last line of `make test`: one verdict over pytest, RSpec and minitest.

Each runner leaves its results in one directory: pytest a JUnit file, and a second one of what failed and was
run again alone; RSpec a JSON file; minitest its output. A runner without results did not finish: one failure.
"""

from __future__ import annotations

import json
import re
import sys
import xml.etree.ElementTree as ElementTree  # nosec B405
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

_MINITEST = re.compile(r"^(\d+) runs, \d+ assertions, (\d+) failures, (\d+) errors, (\d+) skips", re.M)


class Tally(NamedTuple):
    """Numbers of tests."""

    passed: int
    failed: int
    skipped: int

    def __str__(self) -> str:
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"

    def plus(self, other: Tally) -> Tally:
        """Both together."""
        return Tally(*(mine + theirs for mine, theirs in zip(self, other, strict=True)))


def of_pytest(directory: Path) -> Tally:
    """Of the first run; the second one decides about what failed in it."""
    first = _of_junit(directory / "pytest.xml")
    again = directory / "pytest-again.xml"
    if not again.exists():
        return first
    return first._replace(failed=0).plus(_of_junit(again))


def of_rspec(directory: Path) -> Tally:
    """Of RSpec's JSON; an error outside of examples is a failure."""
    summary = json.loads((directory / "rspec.json").read_text())["summary"]
    failed = summary["failure_count"] + summary["errors_outside_of_examples_count"]
    skipped = summary["pending_count"]
    return Tally(summary["example_count"] - summary["failure_count"] - skipped, failed, skipped)


def of_minitest(directory: Path) -> Tally:
    """Of the line that minitest ends with."""
    found = _MINITEST.search((directory / "minitest.log").read_text(errors="replace"))
    if not found:
        raise ValueError("minitest's closing line is missing")
    runs, failures, errors, skips = map(int, found.groups())
    return Tally(runs - failures - errors - skips, failures + errors, skips)


def _of_junit(path: Path) -> Tally:
    suite = ElementTree.parse(path).getroot().find("testsuite")  # nosec B314
    if suite is None:
        raise ValueError(f"{path.name} holds no results")
    tests, failures, errors, skipped = (
        int(suite.get(name, "0")) for name in ("tests", "failures", "errors", "skipped")
    )
    return Tally(tests - failures - errors - skipped, failures + errors, skipped)


RUNNERS: dict[str, Callable[[Path], Tally]] = {
    "pytest": of_pytest,
    "rspec": of_rspec,
    "minitest": of_minitest,
}


def main(directory: Path) -> int:
    """Print a line for each runner and the closing line. Returns the exit status."""
    total = Tally(0, 0, 0)
    for name, read in RUNNERS.items():
        try:
            tally = read(directory)
            print(f"{name:10}{tally}")
        except (OSError, ValueError, KeyError, ElementTree.ParseError) as error:
            tally = Tally(0, 1, 0)
            print(f"{name:10}did not finish: {error}")
        total = total.plus(tally)
    print(total)
    return 1 if total.failed or not total.passed else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
