"""The account after a fault: what was pushed, what the jobs wrote down, and what Redis still holds."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


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
    pushed: Pushed, lines: Iterable[Mapping[str, Any]], places: Iterable[str], ended: frozenset[int]
) -> Account:
    """``places``: jids that Redis still holds; ``ended``: pids that were killed or frozen by the test."""
    runs: defaultdict[str, list[int]] = defaultdict(list)
    events: Counter[tuple[str, str]] = Counter()
    for line in lines:
        jid = line["jid"]
        if jid is None:
            continue
        events[jid, line["event"]] += 1
        if line["event"] == "started":
            runs[jid].append(int(line["pid"]))
    done = {jid for jid, event in events if event == "done"}
    extra = {jid: len(pids) - 1 - events[jid, "failed"] for jid, pids in runs.items()}
    repeated = {jid: count for jid, count in extra.items() if count > 0}
    return Account(
        jobs=len(pushed.sure | done),
        lost=tuple(sorted(pushed.sure - done - set(places))),
        repeated=repeated,
        unexplained=tuple(
            jid for jid, count in repeated.items() if sum(pid in ended for pid in runs[jid]) < count
        ),
        strangers=tuple(sorted(set(runs) - pushed.sure - pushed.unsure)),
    )
