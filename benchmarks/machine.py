"""The conditions of the figures: machine, versions, date."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.processes import ROOT
from benchmarks.roots import RubyRoot

PACKAGES = ("celery", "kombu", "redis", "hiredis", "greenlet", "requests")


def machine(roots: Sequence[RubyRoot]) -> dict[str, Any]:
    """Facts for people who compare figures."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "cores": len(os.sched_getaffinity(0)),
        "cpu": _first(r"model name\s*:\s*(.+)", "/proc/cpuinfo") or platform.machine(),
        "memory_gb": round(int(_first(r"MemTotal:\s*(\d+)", "/proc/meminfo") or 0) / 1e6),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "redis_server": _words(["redis-server", "--version"], r"v=(\S+)"),
        "packages": {name: version(name) for name in PACKAGES},
        "rubies": {f"Sidekiq {root.sidekiq}": f"Ruby {root.ruby}" for root in roots},
        "bridge": _words(["git", "rev-parse", "--short", "HEAD"], r"(\w+)"),
    }


def sentence(facts: Mapping[str, Any]) -> str:
    """The facts in one line."""
    rubies, packages = facts["rubies"], facts["packages"]
    parts = [
        f"{facts['date']}, {facts['cores']} cores ({facts['cpu']}), {facts['memory_gb']} GB",
        f"Linux {facts['kernel']}",
        f"Python {facts['python']}, Celery {packages['celery']}, Redis {facts['redis_server']}",
        ", ".join(f"{sidekiq} on {ruby}" for sidekiq, ruby in rubies.items()),
        f"bridge {facts['bridge'] or 'of an unknown commit'}",
    ]
    return "; ".join(parts)


def _first(pattern: str, path: str) -> str:
    found = re.search(pattern, Path(path).read_text())
    return found[1].strip() if found else ""


def _words(command: Sequence[str], pattern: str) -> str:
    try:
        asked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    except OSError:  # it is not there: an export of the sources has no git
        return ""
    found = re.search(pattern, asked.stdout)
    return found[1] if found else ""
