"""Large jobs, each in a list of its own: Redis moves their bytes, and no script makes a text of them.

The list is one of those in :mod:`bridge.sidekiq.store.arrived`, and everything there holds for it too. It has
one job at most, so a settlement names the list and sends nothing of the job.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from bridge.redis import scripts
from bridge.redis.encoding import Words
from bridge.sidekiq import keys
from bridge.sidekiq.store import lua
from bridge.sidekiq.store.claims import Claim, Claimed, ClaimRequest, LeaseState
from bridge.sidekiq.store.settling_keys import processed_keys

#: The first letters of such a list's name.
OWN = "own"


def watch_name(number: int, queue: str) -> str:
    """The name of a list, as ``bridge:arrived:<identity>`` holds it."""
    return f"{OWN}{number}:{queue}"


def claim_call(request: ClaimRequest) -> scripts.Call:
    """The call of claim_large.lua: from the last of the queues, if the others are empty."""
    *before, queue = [keys.queue(name) for name in request.queues]
    lists, identity = request.lists, request.identity
    names = (keys.LEASE, keys.PAUSED, keys.RECOVERING, keys.arrived(identity), queue)
    args: list[str | bytes | int | float] = [identity, len(lists), *[home.watch for home in lists]]
    return scripts.Call(lua.load("claim_large"), (*names, *[home.key for home in lists], *before), args)


def claim_answer(request: ClaimRequest, result: Any, found: Sequence[Any]) -> Claim:
    """Read the answer of claim_large.lua, and what the lists hold. A list may be fenced in between."""
    if result[0] != b"OK":
        return Claim(LeaseState(result[0].decode()))
    _, now_ms, taken, recovering = result
    queue = request.queues[-1]
    jobs = [
        Claimed(queue, payloads[0], token)
        for token, payloads in enumerate(found[: max(0, taken)], request.first_token)
        if isinstance(payloads, list) and payloads
    ]
    paused = frozenset((queue,) if taken < 0 else ())
    return Claim(LeaseState.HELD, tuple(jobs), now_ms, paused, bool(recovering))


def settle_call(lists: Sequence[str], day: str) -> scripts.Call:
    """The call of settle_large.lua for jobs in these lists."""
    return scripts.Call(lua.load("settle_large"), (*processed_keys(day), *lists), (keys.STAT_TTL_SECONDS,))


class ListReads:
    """Sends commands, and behind them those that read the lists of a claim."""

    def __init__(self, send: Callable[[Sequence[Words]], list[Any]], request: ClaimRequest) -> None:
        self._send = send
        self._reads: list[Words] = [("LRANGE", home.key, 0, -1) for home in request.lists]
        self.found: list[Any] = []
        """The content of each list; the error where Redis refused to tell."""

    def __call__(self, commands: Sequence[Words]) -> list[Any]:
        """One round trip: the answers to the commands."""
        answers = self._send([*commands, *self._reads])
        answers, self.found = answers[: len(commands)], answers[len(commands) :]
        return answers
