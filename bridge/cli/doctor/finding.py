"""The report of a check."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bridge.cli.doctor.site import Site


class Severity(enum.Enum):
    """How bad it is. Exit code 1 comes from errors alone, unless ``--strict``."""

    ERROR = "error"
    """Jobs do not run, are lost, or run where they should not."""
    WARNING = "warning"
    """A fault to come, or a part that does not work as its user may think."""
    HINT = "hint"
    """Worth knowing."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong."""

    severity: Severity
    code: str
    """A name that stays the same: ``redis-eviction``."""
    seen: str
    cure: str


Check = Callable[["Site"], Iterator[Finding]]


def error(code: str, seen: str, cure: str) -> Finding:
    """A finding that stops jobs."""
    return Finding(Severity.ERROR, code, seen, cure)


def warning(code: str, seen: str, cure: str) -> Finding:
    """A finding that will."""
    return Finding(Severity.WARNING, code, seen, cure)


def hint(code: str, seen: str, cure: str) -> Finding:
    """Something worth knowing."""
    return Finding(Severity.HINT, code, seen, cure)
