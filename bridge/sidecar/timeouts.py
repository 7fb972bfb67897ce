"""How long sidecars are waited for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds. ``full`` is how long to wait for a slot while the sidecar is merely full."""

    connect: float = 2.0
    read: float = 40.0
    """How long one reply may take; more than a request waits for its job."""
    full: float = 20.0
    command: float = 3.0
    """How long one Puma worker may take to answer a command that all are given."""
    repeat: float = 10.0
    """How long to ask again for the outcome of a job whose reply was lost."""


DEFAULTS = Timeouts()
