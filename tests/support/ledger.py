"""What the jobs did: a file of JSON lines, appended by Ruby and Python."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.waiting import wait_for


class Ledger:
    """Reads the lines that jobs wrote since the last ``clear``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.path.touch()

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line, parse_int=_int) for line in self._whole_lines()]

    def _whole_lines(self) -> list[str]:
        # A long line may be half written at the moment.
        return self.path.read_text().split("\n")[:-1]

    @property
    def size(self) -> int:
        """Number of lines so far, without reading what they say: cheap enough to look at again and again."""
        return self.path.read_bytes().count(b"\n")

    def clear(self) -> None:
        """Empty it and close all gates."""
        self.path.write_text("")
        for gate in self.path.parent.glob("gate-*"):
            gate.unlink()

    def open_gate(self, name: str) -> None:
        """Let the jobs that wait for this gate go on."""
        (self.path.parent / f"gate-{name}").touch()

    def events(self, jid: str | None) -> list[str]:
        """What happened to one job, in order."""
        return [line["event"] for line in self.lines if line["jid"] == jid]

    def count(self, event: str, jid: str | None = None) -> int:
        return sum(line["event"] == event and jid in (None, line["jid"]) for line in self.lines)

    def most_at_once(self, counts: Callable[[dict[str, Any]], bool] = lambda line: True) -> int:
        """How many of the jobs whose lines count ran at once at most, by their "started" and "done"."""
        running = most = 0
        for line in self.lines:
            if counts(line):
                running += {"started": 1, "done": -1}.get(line["event"], 0)
                most = max(most, running)
        return most

    def args(self, jid: str, event: str = "done") -> list[Any]:
        """Arguments that perform got."""
        return next(line["args"] for line in self.lines if line["jid"] == jid and line["event"] == event)

    def wait_for(self, event: str, jid: str | None, times: int = 1, seconds: float = 15.0) -> None:
        """Wait until this has happened to this job."""
        wait_for(
            lambda: self.events(jid).count(event) >= times, f"{times} times {event!r} of job {jid}", seconds
        )


def _int(digits: str) -> int | str:
    """Python refuses to read integers of more than 4,300 digits; Ruby writes them."""
    return int(digits) if len(digits) < 4300 else digits
