"""What is asked of the job store and what it answers, and the store's own interface."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple, Protocol

from bridge.errors import StoreError
from bridge.sidekiq.store.settlement import Settled, Settlement

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


class Store(Protocol):
    """What the worker needs of Redis; replace it in tests, or to put another server behind it.

    Every method raises :class:`bridge.errors.StoreUnavailable` when Redis cannot answer now.
    """

    def exchange(self, settlements: Sequence[Settlement], claim: ClaimRequest | None) -> Exchange:
        """Settle and claim in one round trip. A refused claim is in the result, beside the settlements."""

    def claim_exact(self, identity: str, first_token: int, queue: str, payloads: Sequence[bytes]) -> Claim:
        """Claim jobs from the end of one queue, as long as they still are these bytes."""

    def look(
        self, quiet: Sequence[str], queues: Sequence[str], count: int
    ) -> tuple[bool, list[list[bytes] | None]]:
        """Whether one of ``quiet`` may have jobs, and the next ``count`` jobs of each of ``queues``.

        The one that runs next is the first; nothing is taken. None is a queue that cannot be read.
        """

    def occupied(self, queues: Sequence[str]) -> list[str]:
        """Those of the queues that are not known to be empty."""

    def fence_claims(self, identity: str, first_valid_token: int) -> tuple[int, set[int]]:
        """Refuse earlier claims that are not carried out yet. Returns ms of Redis TIME, and all in flight."""

    def entries(self, identity: str, tokens: Sequence[int]) -> list[Claimed]:
        """The jobs in flight under these tokens, without those that are gone."""

    def standing(self, identity: str) -> tuple[float, int]:
        """End of a lease in ms of Redis TIME, and how many jobs are in flight."""

    def push_promoted(self, identity: str, token: int, queue: str, payload: bytes) -> bool:
        """Push an entry that a worker took out of its set and did not settle. False when it was settled."""

    def recoveries(self, jids: Sequence[str]) -> list[int]:
        """How often each job was found in dead hands."""

    def lease(self, identity: str, length_ms: int, *, register: bool = False) -> LeaseState:
        """Take (``register``) or renew a lease."""

    def leave(self, identity: str) -> int:
        """End a lease. Returns how many jobs its holder still had."""
