"""The number of cores that this process may use: CPU affinity, and the quota of its cgroups."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUP = Path("/proc/self/cgroup")


def usable_cores(cgroups: Path = CGROUPS, own: Path = OWN_CGROUP) -> int:
    """At least 1. A quota of 1.5 cores counts as 2: one worker alone could not use it up."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([affinity, *(math.ceil(quota) for quota in _quotas(cgroups, own))]))


def _quotas(cgroups: Path, own: Path) -> Iterator[float]:
    """Cores that each cgroup above this process allows; cgroup v2 (``cpu.max``) and v1 (``cfs_quota_us``)."""
    with contextlib.suppress(OSError):
        for line in own.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers == "":
                yield from _upwards(cgroups, path)
            elif "cpu" in controllers.split(","):
                yield from _upwards(cgroups / "cpu", path)


def _upwards(root: Path, path: str) -> Iterator[float]:
    """The quota of a cgroup and of its ancestors. In a container the path may lead outside its mount."""
    inner = root / path.strip("/")
    for directory in (inner, *inner.parents):
        if directory.is_relative_to(root):
            yield from _quota(directory)


def _quota(directory: Path) -> Iterator[float]:
    with contextlib.suppress(OSError, ValueError):
        quota, period = _words(directory)
        if quota.isdigit() and int(period) > 0:  # else "max" or -1: without a limit
            yield int(quota) / int(period)


def _words(directory: Path) -> tuple[str, str]:
    if (both := directory / "cpu.max").is_file():
        quota, period = both.read_text().split()
        return quota, period
    quota, period = (
        (directory / name).read_text().strip() for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us")
    )
    return quota, period
