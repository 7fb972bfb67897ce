"""What ``make faults`` prints and writes: one line for each fault."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.faults.account import Account

REPORT = "FAULTS_REPORT"


@dataclass
class Line:
    """``note`` says what else was measured."""

    fault: str
    jobs: int
    lost: int
    repeated: int
    recovery_seconds: float | None
    note: str = ""


@dataclass
class Report:
    """Collects the lines of one run."""

    lines: list[Line] = field(default_factory=list)

    def add(self, fault: str, account: Account, recovery: float | None, note: str = "") -> None:
        seconds = None if recovery is None else round(recovery, 2)
        self.lines.append(Line(fault, account.jobs, len(account.lost), account.repeats, seconds, note))

    def table(self) -> list[str]:
        rows = [("fault", "jobs", "lost", "repeated", "recovery s", "")]
        for line in self.lines:
            recovery = "" if line.recovery_seconds is None else f"{line.recovery_seconds:.1f}"
            rows.append((line.fault, str(line.jobs), str(line.lost), str(line.repeated), recovery, line.note))
        widths = [max(len(row[i]) for row in rows) for i in range(6)]
        return [
            "  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        ]

    def write(self) -> None:
        """As JSON, where the variable names a file."""
        if path := os.environ.get(REPORT):
            Path(path).write_text(json.dumps([asdict(line) for line in self.lines], indent=1) + "\n")
