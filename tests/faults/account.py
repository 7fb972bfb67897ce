"""The account after a fault: what was pushed, what the jobs wrote down, and what Redis still holds."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

#: So long may pass between the end of a run and its job's settlement, where the worker died meanwhile.
LATEST_SECONDS = 20.0


@dataclass(frozen=True)
class Pushed:
    """jids whose push Redis has confirmed, and those of which nobody knows whether they arrived."""

    sure: frozenset[str]
    unsure: frozenset[str]

    @classmethod
    def read(cls, path: Path) -> Pushed:
        words = [line.split() for line in path.read_text().splitlines()]
        sure = frozenset(jid for jid, how in words if how == "sure")
        return cls(sure, frozenset(jid for jid, how in words if how != "sure"))


@dataclass
class Ended:
    """Processes that the test killed or froze; ``at`` has the time of those that were killed."""

    pids: set[int] = field(default_factory=set)
    at: dict[int, float] = field(default_factory=dict)

    def excuses(self, pid: int, done_at: float | None) -> bool:
        """Whether what this process ran may run again: not what it had done long before its end."""
        if pid not in self.pids:
            return False
        return done_at is None or pid not in self.at or done_at > self.at[pid] - LATEST_SECONDS


@dataclass(frozen=True)
class Account:
    """``repeated`` counts runs beyond the first and beyond one for each failure, by jid."""

    jobs: int
    lost: tuple[str, ...]
    repeated: Mapping[str, int]
    unexplained: tuple[str, ...]
    """jids that ran again although no process that had run them was killed or frozen."""
    strangers: tuple[str, ...]
    """jids that ran and were never pushed."""

    @property
    def repeats(self) -> int:
        return sum(self.repeated.values())


def draw_up(
    pushed: Pushed, lines: Iterable[Mapping[str, Any]], places: Iterable[str], ended: Ended
) -> Account:
    """``places``: jids that Redis still holds."""
    runs: defaultdict[str, list[int]] = defaultdict(list)
    events: Counter[tuple[str, str]] = Counter()
    done_at: dict[tuple[str, int], float] = {}
    for line in lines:
        jid = line["jid"]
        if jid is None:
            continue
        events[jid, line["event"]] += 1
        if line["event"] == "started":
            runs[jid].append(int(line["pid"]))
        elif line["event"] == "done":
            done_at[jid, int(line["pid"])] = float(line["at"])
    done = {jid for jid, event in events if event == "done"}
    extra = {jid: len(pids) - 1 - events[jid, "failed"] for jid, pids in runs.items()}
    repeated = {jid: count for jid, count in extra.items() if count > 0}
    return Account(
        jobs=len(pushed.sure | done),
        lost=tuple(sorted(pushed.sure - done - set(places))),
        repeated=repeated,
        unexplained=tuple(
            jid
            for jid, count in repeated.items()
            if sum(ended.excuses(pid, done_at.get((jid, pid))) for pid in runs[jid]) < count
        ),
        strangers=tuple(sorted(set(runs) - pushed.sure - pushed.unsure)),
    )
