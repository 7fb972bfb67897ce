"""The store's side of claims while no sidecar answers: reads the next jobs, and claims exactly those."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import redis

from bridge.redis import scripts
from bridge.redis.encoding import Words
from bridge.redis.outages import outages, raise_first_error
from bridge.redis.pipeline import KeptConnection
from bridge.sidekiq import keys
from bridge.sidekiq.store import lua
from bridge.sidekiq.store.claims import (
    ENTRY_VERSION,
    Claim,
    Claimed,
    ClaimMark,
    LeaseState,
    claim_keys,
    entry,
    marked,
)
from bridge.sidekiq.store.script_calls import ScriptCalls

#: Up to this size the script compares the whole job.
SMALL_BYTES = 1000
#: Of a larger job the script compares its length and this number of bytes at both ends. Sidekiq writes jid
#: and times there.
END_BYTES = 300


class ExactClaims(ScriptCalls):
    """For one thread at a time. Each method raises StoreError."""

    def __init__(self, client: redis.Redis) -> None:
        super().__init__(client)
        self._line = KeptConnection(client)

    def claim_exact(
        self, identity: str, first_token: int, queue: str, payloads: Sequence[bytes], with_limits: int = 0
    ) -> Claim:
        """Claim jobs from the end of one queue, as long as they still are these bytes.

        A job of the claim has other bytes where another large job of equal length and ends took its place.
        The caller must look at it. ``with_limits``: how many may have a limit; then the claim is noted.
        """
        names: tuple[str, ...] = (*claim_keys(identity), keys.queue(queue))
        args = [identity, first_token, ENTRY_VERSION + b"\n", *[w for each in payloads for w in _marks(each)]]
        call = scripts.Call(lua.load("claim_exact"), names, args)
        if with_limits:
            call = scripts.Call(marked("claim_exact"), (keys.CLAIMING, *names), (with_limits, *args))
        large = [i for i, payload in enumerate(payloads) if len(payload) > SMALL_BYTES]
        result, entries = self._run(call, identity, [first_token + i for i in large])
        status, *rest = result
        noted: tuple[ClaimMark, ...] = ()
        if isinstance(status, list):
            noted = (ClaimMark(identity, first_token, *status[1:]),)
            status = status[0]
        if status != b"OK":
            return Claim(LeaseState(status.decode()))
        now_ms, taken, recovering = rest
        jobs = [
            Claimed(queue, payload, first_token + i) for i, payload in enumerate(payloads[: max(0, taken)])
        ]
        for i, value in zip(large, entries, strict=True):
            if value is not None and i < taken and (found := entry(first_token + i, value)) != jobs[i]:
                jobs[i] = found
        paused = frozenset((queue,) if taken < 0 else ())
        return Claim(LeaseState.HELD, tuple(jobs), now_ms, paused, bool(recovering), noted)

    def _run(self, call: scripts.Call, identity: str, tokens: Sequence[int]) -> tuple[Any, list[Any]]:
        """The answer of a claim, and in the same round trip what is in flight under these tokens."""
        found: list[Any] = []

        def send(commands: Sequence[Words]) -> list[Any]:
            if not tokens:
                return self._line.send(commands)
            *answers, entries = self._line.send([*commands, ("HMGET", keys.inflight(identity), *tokens)])
            found[:] = [entries]
            return answers

        results = scripts.run(self.client, [call], send)
        raise_first_error([*results, *found])
        return results[0], found[0] if found else []

    def look(
        self, quiet: Sequence[str], queues: Sequence[str], count: int
    ) -> tuple[bool, list[list[bytes] | None]]:
        """Whether one of ``quiet`` may have jobs, and the next ``count`` jobs of each of ``queues``.

        The one that runs next is the first. None is a queue that cannot be read. For one thread at a time.
        """
        asked: list[Words] = [("EXISTS", *map(keys.queue, quiet))] if quiet else []
        with outages():
            found = self._line.send([*asked, *(("LRANGE", keys.queue(name), -count, -1) for name in queues)])
        stirred = bool(asked) and found.pop(0) != 0
        return stirred, [payloads[::-1] if isinstance(payloads, list) else None for payloads in found]

    def occupied(self, queues: Sequence[str]) -> list[str]:
        """Those of the queues that are not known to be empty. For one thread at a time."""
        with outages():
            found = self._line.send([("EXISTS", keys.queue(name)) for name in queues])
        return [name for name, there in zip(queues, found, strict=True) if there != 0]


def _marks(payload: bytes) -> tuple[int, bytes, bytes]:
    """Length, first bytes and last bytes, by which the script knows the job again."""
    if len(payload) <= SMALL_BYTES:
        return len(payload), payload, payload[-1:]
    return len(payload), payload[:END_BYTES], payload[-END_BYTES:]
