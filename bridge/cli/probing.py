"""The probes of ``bridge verify``: what each shall come to, and what was seen of it."""

from __future__ import annotations

import enum
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from bridge.cli.locate import find, held
from bridge.cli.parts import Parts
from bridge.sidekiq import keys
from bridge.sidekiq.api.entries import SETS, Entry, Place
from bridge.sidekiq.api.filters import Filters

#: Long enough to be seen on the Busy page, which shows a job from half a second on.
BUSY_SECONDS = 2.0
SCHEDULE_SECONDS = 2.0


class Expectation(enum.Enum):
    """The outcome that a probe must have."""

    DONE = "done"
    RETRIED = "retried"
    DEAD = "dead"
    SCHEDULED = "scheduled"

    @property
    def title(self) -> str:
        return {
            "done": "busy, then done",
            "retried": "in retry",
            "dead": "in dead",
            "scheduled": "in schedule, then done",
        }[self.value]

    @property
    def fails(self) -> bool:
        return self in (Expectation.RETRIED, Expectation.DEAD)

    @property
    def args(self) -> list[Any]:
        return ["fail"] if self.fails else ["done", BUSY_SECONDS]

    @property
    def retry(self) -> int:
        return 3 if self is Expectation.RETRIED else 0

    @property
    def delay_seconds(self) -> float:
        return SCHEDULE_SECONDS if self is Expectation.SCHEDULED else 0.0


@dataclass
class Probe:
    """One job that was sent, and what was seen of it."""

    kind: str
    expectation: Expectation
    jid: str
    queue: str

    seen: list[str] = field(default_factory=list)
    problem: str = ""
    ended: bool = False
    started_at: float = field(default_factory=time.monotonic)
    seconds: float = 0.0

    @property
    def well(self) -> bool:
        return self.ended and not self.problem

    @property
    def says(self) -> str:
        return self.problem or ", then ".join(self.seen)

    def saw(self, where: str) -> None:
        """It is there; said once."""
        if where not in self.seen:
            self.seen.append(where)

    def end(self, problem: str = "") -> None:
        """Nothing more is to be seen."""
        self.ended, self.problem = True, problem
        self.seconds = time.monotonic() - self.started_at

    def summary(self) -> dict[str, Any]:
        """What ``--json`` prints."""
        return {
            "probe": self.kind,
            "expected": self.expectation.value,
            "ok": self.well,
            "seconds": round(self.seconds, 2),
            "seen": self.seen,
            "problem": self.problem or None,
            "jid": self.jid,
            "queue": self.queue,
        }


@dataclass(frozen=True)
class Watch:
    """Looks for the probes where the Web UI would."""

    parts: Parts

    def look(self, probes: Sequence[Probe]) -> None:
        """One look at all that have not ended."""
        open_ones = [probe for probe in probes if not probe.ended]
        entries = self._entries({probe.jid for probe in open_ones})
        rows = self.parts.processes.running(row.identity for row in self.parts.processes.all())
        running = {row.jid: row.identity for row in rows}
        for probe in open_ones:
            self._judge(probe, entries.get(probe.jid), running.get(probe.jid))

    def give_up(self, probes: Sequence[Probe], seconds: float) -> None:
        """Say of each that has not ended where it was seen last."""
        for probe in probes:
            if not probe.ended:
                seen = ", ".join(probe.seen) or "nowhere"
                probe.end(f"not there after {seconds:g} s; seen: {seen}; {self._whereabouts(probe)}")

    def _whereabouts(self, probe: Probe) -> str:
        places = [found.where for found in find(self.parts, probe.jid)]
        return f"now: {', '.join(places)}" if places else "now nowhere"

    def _entries(self, jids: set[str]) -> dict[str, Entry]:
        wanted = Filters(frozenset(jids))
        places = [*map(Place, SETS)]
        return {
            str(entry.job.jid): entry
            for place in places
            for entry in self.parts.entries.in_order(place, wanted.needles)
            if entry.job.jid in jids
        }

    def _judge(self, probe: Probe, entry: Entry | None, identity: str | None) -> None:
        if identity is not None:
            probe.saw(f"busy in {identity}")
        elif entry is not None:
            self._judge_entry(probe, entry)
        elif any(sight.startswith("busy") for sight in probe.seen) and self._is_gone(probe):
            probe.saw("done")
            unexpected = probe.expectation.fails
            probe.end("it was done, and should have failed" if unexpected else self._missed(probe))

    def _missed(self, probe: Probe) -> str:
        scheduled = probe.expectation is Expectation.SCHEDULED
        return "it was never seen in schedule" if scheduled and "in schedule" not in probe.seen else ""

    def _is_gone(self, probe: Probe) -> bool:
        in_queue = any(
            entry.job.jid == probe.jid
            for entry in self.parts.entries.in_order(Place(keys.queue(probe.queue)), (probe.jid.encode(),))
        )
        return not in_queue and not held(self.parts, probe.jid)

    def _judge_entry(self, probe: Probe, entry: Entry) -> None:
        probe.saw(f"in {entry.place}")
        if entry.place.key == keys.SCHEDULE:
            return
        wanted = keys.RETRY if probe.expectation is Expectation.RETRIED else keys.DEAD
        if entry.place.key != wanted or not probe.expectation.fails:
            probe.end(f"it is in {entry.place}: {_error(entry)}")
        else:
            probe.end(_blemish(entry))


def _error(entry: Entry) -> str:
    return f"{entry.job.fields.get('error_class')}: {entry.job.fields.get('error_message')}"


def _blemish(entry: Entry) -> str:
    """Faults that the pages of the Web UI would show."""
    if not str(entry.job.fields.get("error_class")).endswith("ProbeFailed"):
        return f"it failed otherwise than on purpose: {_error(entry)}"
    missing = [name for name in ("queue", "jid", "failed_at", "retry_count") if name not in entry.job.fields]
    return f"the Web UI would miss {', '.join(missing)}" if missing else ""
