"""The store's side of notices for Ruby: which wait, who tells them, and how they end."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from bridge import errors
from bridge.redis import scripts
from bridge.redis.outages import outages
from bridge.sidekiq import keys
from bridge.sidekiq.outcome.notice import Notice
from bridge.sidekiq.payload.job import SidekiqJob
from bridge.sidekiq.store import lua
from bridge.sidekiq.store.script_calls import ScriptCalls

#: How many of the oldest notices one look reads.
LOOK = 100
#: Most notices, and most bytes of them, for one request to a sidecar.
MOST_AT_ONCE = 20
LARGEST_BYTES = 4 * 1024 * 1024
#: Longer than a sidecar may take for one request: another worker tells the notices of a worker that died.
TAKEN_MS = 60_000


def telling(call: scripts.Call, entry: bytes, most: int) -> scripts.Call:
    """A call that ends a job, and adds a notice of that end in the same step."""
    return scripts.Call(
        call.script, (*call.keys, keys.NOTICES, keys.NOTICES_DROPPED), (*call.args, entry, most)
    )


class Waiting(NamedTuple):
    """A notice that this worker has taken, exactly as Redis holds it."""

    entry: bytes
    tries: int
    """How often its outcome was lost: the Puma worker that was asked may have died of it."""
    boot: str
    """Boot id of the Puma worker that was asked before; empty for none. That one may know the outcome."""

    @property
    def head(self) -> Mapping[str, Any]:
        """All but the payload. Empty for an entry that is not a notice."""
        try:
            found = json.loads(self.entry.partition(b"\n")[0])
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    @property
    def id(self) -> str:
        """The name of the delivery, or another unique text."""
        return str(self.head.get("id", ""))

    @property
    def buried(self) -> bytes:
        """The payload as the dead set holds it."""
        payload = self.entry.partition(b"\n")[2]
        try:
            job = SidekiqJob.parse(payload)
            return job.with_fields(job.entry_fields(self.head.get("fields") or {}))
        except errors.PayloadError:
            return payload


class Taken(NamedTuple):
    """One look: notices to be told now, and how many were dropped since the last look of any worker."""

    notices: Sequence[Waiting]
    dropped: int


class NoticeCalls(ScriptCalls):
    """Adds notices, takes them, and forgets those that were told. Raises StoreError."""

    on_notice: Callable[[], object] = staticmethod(lambda: None)
    """Called after a call that may have added a notice."""

    def tell_ruby(self, wanted: bool, on_notice: Callable[[], object] = lambda: None) -> None:
        """``wanted``: a sidecar is configured, so ends outside of Ruby are noted for it."""
        self.tells_ruby, self.on_notice = wanted, on_notice

    def told(self, call: scripts.Call, notice: Notice, queue: str, payload: bytes) -> scripts.Call:
        """The call that ends a waiting job, with a notice of that end where a sidecar is configured."""
        if not self.tells_ruby:
            return call
        return telling(call, notice.entry(f"waiting/{os.urandom(12).hex()}", queue, payload), notice.most)

    def take_notices(self, boot: str, most: int = MOST_AT_ONCE) -> Taken:
        """Take the oldest that no worker is telling; the Puma worker ``boot`` is to be asked."""
        names = (keys.NOTICES, keys.TELLING, keys.NOTICES_DROPPED)
        args = (LOOK, most, LARGEST_BYTES, TAKEN_MS, boot)
        dropped, found = self._one(scripts.Call(lua.load("notices_take"), names, args))
        triples = zip(found[::3], found[1::3], found[2::3], strict=True)
        return Taken([Waiting(entry, tries, asked.decode()) for entry, tries, asked in triples], dropped)

    def notice_told(self, notice: Waiting, *, discard: bool = False) -> bool:
        """Forget it. ``discard``: the app's own hook keeps the job out of the dead set."""
        args = (notice.entry, notice.id, notice.buried if discard else b"")
        names = (keys.NOTICES, keys.TELLING, keys.DEAD)
        return bool(self._one(scripts.Call(lua.load("notices_told"), names, args)))

    def put_notice_off(self, notice: Waiting, seconds: float, *, tries: int, boot: str = "") -> None:
        """Let it wait behind the others, for at least ``seconds``."""
        args = (notice.entry, notice.id, int(seconds * 1000), tries, boot)
        self._one(scripts.Call(lua.load("notices_put_off"), (keys.NOTICES, keys.TELLING), args))

    def release_notices(self, notices: Sequence[Waiting]) -> None:
        """Nothing was told: any worker may take them."""
        if notices:
            with outages():
                self.client.hdel(keys.TELLING, *[notice.id for notice in notices])
