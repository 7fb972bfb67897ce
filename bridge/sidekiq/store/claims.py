"""What is asked of the job store and what it answers, and the store's own interface."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from bridge.errors import StoreError
from bridge.sidekiq.store.settlement import Settled

#: Format version of an in-flight entry: ``<version>\n<queue>\n<payload>``.
ENTRY_VERSION = b"1"


class Claimed(NamedTuple):
    """One job taken from a queue."""

    queue: str
    payload: bytes
    token: int


class ClaimRequest(NamedTuple):
    """Wish for up to ``want`` jobs from ``queues``.

    ``orders`` is empty for strict order, or holds one visiting order (indexes into ``queues``) for each slot.
    """

    identity: str
    queues: tuple[str, ...]
    want: int
    first_token: int
    orders: tuple[tuple[int, ...], ...] = ()


class LeaseState(Enum):
    """What Redis says of this worker's lease."""

    HELD = "OK"
    EXPIRED = "EXPIRED"
    FENCED = "FENCED"


class Claim(NamedTuple):
    """Answer to a :class:`ClaimRequest`. ``claimed_at_ms`` is Redis TIME."""

    lease: LeaseState
    jobs: tuple[Claimed, ...] = ()
    claimed_at_ms: int = 0
    paused: frozenset[str] = frozenset()
    recovering: bool = False
    """Whether jobs were taken out of dead hands lately: some of these may be among them."""


@dataclass(frozen=True, slots=True)
class Due:
    """Entries whose time has come. ``next_in_seconds`` is None when nothing else waits."""

    now: float
    retry: tuple[bytes, ...] = ()
    schedule: tuple[bytes, ...] = ()
    next_in_seconds: float | None = None


class Standing(NamedTuple):
    """One worker as Redis sees it. ``end_ms`` is the end of its lease; 0 or less: gone, or being reaped."""

    end_ms: float
    in_flight: int
    now_ms: float
    """Redis TIME, as ``end_ms``."""


class Promoted(NamedTuple):
    """How many due entries were moved, and how many stay because Redis refuses their queue."""

    moved: int
    refused: int = 0


class Exchange(NamedTuple):
    """Result of one round trip: settlements in the order given, and the claim if one was asked for."""

    settled: Sequence[Settled] = ()
    claim: Claim | None = None
    refusal: StoreError | None = None
    """Why Redis did not carry out the claim, where it did not; the settlements stand."""


def entry(token: int, value: bytes) -> Claimed:
    """Read one in-flight entry back."""
    version, queue, payload = value.split(b"\n", 2)
    if version != ENTRY_VERSION:
        raise StoreError(
            f"in-flight entry {token} has format {version.decode(errors='replace')!r}; this release reads "
            f"{ENTRY_VERSION.decode()!r}. Run the newer release until it has settled its jobs."
        )
    return Claimed(queue.decode(errors="surrogateescape"), payload, token)
