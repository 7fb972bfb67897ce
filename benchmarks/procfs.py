"""CPU time and memory of processes and their children, as the kernel counts them."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")
_CPUCLOCK_SCHED = 2


def descendants(pids: Iterable[int]) -> set[int]:
    """These processes and everything that came from them and lives."""
    parents = {pid: _parent(pid) for pid in map(int, filter(str.isdigit, os.listdir("/proc")))}
    found = set(pids)
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def cpu_seconds(pids: Iterable[int]) -> float:
    """CPU time used by these processes, all their threads and all their children, ended ones too."""
    return sum(_own_seconds(pid) + _ended_children_seconds(pid) for pid in descendants(pids))


def pss_bytes(pids: Iterable[int]) -> int:
    """Memory of these processes and their descendants; a page that N of them share counts once in all."""
    return sum(_rollup(pid) for pid in descendants(pids))


def _own_seconds(pid: int) -> float:
    # The CPU clock of another process in nanoseconds (clock_getcpuclockid); /proc has 1/100 s only.
    try:
        return time.clock_gettime((~pid << 3) | _CPUCLOCK_SCHED)
    except OSError:  # it has just ended; its parent has its time
        return 0.0


def _ended_children_seconds(pid: int) -> float:
    fields = _fields(pid)
    return (int(fields[13]) + int(fields[14])) / TICK if fields else 0.0


def _parent(pid: int) -> int:
    fields = _fields(pid)
    return int(fields[1]) if fields else 0


def _fields(pid: int) -> list[str]:
    """``/proc/<pid>/stat`` from the state on (field 3 of proc(5)); empty where it has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _rollup(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:  # it has ended, or is not ours to read
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)
