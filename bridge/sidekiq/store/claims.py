"""The questions to the job store, and its answers."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple

from bridge.errors import StoreError
from bridge.redis import scripts
from bridge.sidekiq import keys
from bridge.sidekiq.store import lua
from bridge.sidekiq.store.settlement import Settled
from bridge.sidekiq.store.tuples import new

#: Format version of an in-flight entry: ``<version>\n<queue>\n<payload>``.
ENTRY_VERSION = b"1"
#: The other format: a large payload alone, which names its queue before its first inner bracket. The same
#: pattern as in ``claim_entry.lua``.
_NAMES_ITS_QUEUE = re.compile(rb'\{[^{\[]*?"queue":"([^"\\]*)"')


class Claimed(NamedTuple):
    """One job taken from a queue."""

    queue: str
    payload: bytes
    token: int


class ArrivedList(NamedTuple):
    """The list of one watch, or of one large job. A number is never used twice under one identity."""

    identity: str
    watch: str
    """``<number>:<queue>``."""
    key: str
    queue: str
    """The queue from which its jobs come."""

    @classmethod
    def of(cls, identity: str, watch: str) -> ArrivedList:
        """The list of this watch. Each job reads its key and its queue: they are made once."""
        return cls(identity, watch, keys.arrived_list(identity, watch), watch.partition(":")[2])


class ClaimRequest(NamedTuple):
    """Wish for up to ``want`` jobs from ``queues``.

    ``orders`` is empty for strict order, or holds one visiting order (indexes into ``queues``) for each slot.
    """

    identity: str
    queues: tuple[str, ...]
    want: int
    first_token: int
    orders: tuple[tuple[int, ...], ...] = ()
    lists: tuple[ArrivedList, ...] = ()
    """Large jobs are expected, only in the last of the queues: an empty list for each."""
    marks: tuple[str, ...] = ()
    """Texts in payloads of jobs with a limit, and ``queue:<name>``: such a claim is noted (limits)."""


class LeaseState(Enum):
    """What Redis says of this worker's lease."""

    HELD = "OK"
    EXPIRED = "EXPIRED"
    FENCED = "FENCED"


class ClaimMark(NamedTuple):
    """The claim of a worker with limits also tells Redis TIME in us, and how many jobs have a mark."""

    identity: str
    first_token: int
    began_us: int
    ended_us: int
    jobs: int

    @property
    def name(self) -> str:
        """By which Redis notes the claim, until the worker has asked for the places of its jobs."""
        return f"{self.identity} {self.jobs} {self.began_us}"


class Claim(NamedTuple):
    """Answer to a :class:`ClaimRequest`. ``claimed_at_ms`` is Redis TIME."""

    lease: LeaseState
    jobs: tuple[Claimed, ...] = ()
    claimed_at_ms: int = 0
    paused: frozenset[str] = frozenset()
    recovering: bool = False
    """Whether orphaned jobs were given back lately: some of these may be among them."""
    marks: tuple[ClaimMark, ...] = ()


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
    """The reason why Redis did not carry out the claim; the settlements are in force."""


def entry(token: int, value: bytes) -> Claimed:
    """Read one in-flight entry back. Raises StoreError where another release wrote it."""
    if (bare := _NAMES_ITS_QUEUE.match(value)) is not None:
        return Claimed(bare[1].decode(errors="surrogateescape"), value, token)
    version, *rest = value.split(b"\n", 2)
    if version != ENTRY_VERSION or len(rest) < 2:
        raise StoreError(
            f"in-flight entry {token} has format {format_of(value)!r}; this release reads "
            f"{ENTRY_VERSION.decode()!r}. Run the newer release until it has settled its jobs."
        )
    queue, payload = rest
    return Claimed(queue.decode(errors="surrogateescape"), payload, token)


def format_of(value: bytes) -> str:
    """The format of an in-flight entry; that of this release for both that it reads."""
    if _NAMES_ITS_QUEUE.match(value) is not None:
        return ENTRY_VERSION.decode()
    return value.split(b"\n", 1)[0][:20].decode(errors="replace")


def claim_keys(identity: str) -> tuple[str, ...]:
    """The first KEYS of both scripts that claim."""
    return keys.LEASE, keys.inflight(identity), keys.PAUSED, keys.RECOVERING, keys.fence(identity)


@functools.lru_cache(maxsize=4)
def _keys_of_claim(identity: str, queues: tuple[str, ...]) -> tuple[str, ...]:
    return *claim_keys(identity), *(keys.queue(name) for name in queues)


def claim_call(request: ClaimRequest) -> scripts.Call:
    """The call of claim.lua."""
    orders = [" ".join(str(i + 1) for i in order) for order in request.orders]
    names = _keys_of_claim(request.identity, request.queues)
    args: tuple[str | bytes | int, ...] = (
        request.identity,
        str(request.want),
        str(request.first_token),
        ENTRY_VERSION + b"\n",
        *orders,
    )
    if request.marks:
        names, args = (keys.CLAIMING, *names), (len(request.marks), *request.marks, *args)
        return scripts.Call(marked("claim"), names, args)
    return scripts.Call(lua.load("claim"), names, args)


@functools.cache
def marked(name: str) -> scripts.Script:
    """``<name>_marked.lua`` around ``<name>.lua``."""
    text = lua.text(f"{name}_marked").replace("--@claim", lua.text(name))
    return scripts.Script.of(f"{name}_marked", text)


def claim_answer(request: ClaimRequest, result: Any) -> Claim:
    """Read the answer of claim.lua."""
    state = result[0]
    noted: tuple[ClaimMark, ...] = ()
    if isinstance(state, list):
        state, noted = state[0], (ClaimMark(request.identity, request.first_token, *state[1:]),)
    if state != b"OK":
        return Claim(LeaseState(state.decode()))
    queues = request.queues
    pairs = zip(result[4::2], result[5::2], strict=True)
    jobs = tuple(
        [
            new(Claimed, (queues[number - 1], payload, token))
            for token, (number, payload) in enumerate(pairs, request.first_token)
        ]
    )
    paused = frozenset([queues[int(number) - 1] for number in result[2].split()])
    return Claim(LeaseState.HELD, jobs, result[1], paused, bool(result[3]), noted)
