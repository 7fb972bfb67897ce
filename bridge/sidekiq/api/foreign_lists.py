"""Jobs in the private lists of other fetchers: reliable fetch moves a job there while a Ruby process runs it.

A list whose process died stays until another process with the same fetcher looks for it. A team that has gone
over to the bridge has none. The formats are those of gitlab-sidekiq-fetcher (and sidekiq-reliable-fetch, its
older name) 0.1 to 0.12, sidekiq-reliable-fetch by TEA, and Sidekiq Pro's super_fetch.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import redis

from bridge.redis import scripts
from bridge.redis.outages import outages, raise_first_error
from bridge.sidekiq import keys
from bridge.sidekiq.store import lua

SCAN_COUNT = 1000
#: Most jobs that one step of a script moves.
PAGE = 500

_GITLAB = re.compile(r"working:queue:(?P<queue>.+):(?P<owner>[^:]*:\d+:[0-9a-f]+)")
_GITLAB_BEFORE = re.compile(r"working:queue:(?P<queue>.+):(?P<owner>[^:]*:\d+)")
_SUPER_FETCH = re.compile(r"queue:sq\|(?P<owner>[^|]+)\|(?P<queue>.+)")
_TEA = re.compile(r"queue:(?P<queue>.+):working")


@dataclass(frozen=True, slots=True)
class ForeignList:
    """One private list."""

    key: str
    queue: str
    fetcher: str
    owner: str
    """``host:pid`` with a nonce where the fetcher has one; empty where the list names no process."""
    held: int
    alive: bool
    """Whether its owner lives, by its own heartbeat or a row of the Busy page."""
    signs: tuple[str, ...]
    """Keys that exist only while its owner lives."""


@dataclass(frozen=True)
class ForeignLists:
    """The private lists on one Redis. Every method raises StoreError."""

    client: Any
    """A redis.Redis that answers in bytes."""

    def all(self) -> list[ForeignList]:
        """Each that has jobs. One pass over all keys."""
        with outages():
            rows = sorted(name.decode(errors="replace") for name in self.client.smembers(keys.PROCESSES))
            ours = {name.decode(errors="replace") for name in self.client.zrange(keys.LEASE, 0, -1)}
        rubies = [row for row in rows if row not in ours]
        found = (self._read(key, rubies) for key in self._candidates())
        return sorted((one for one in found if one is not None and one.held), key=lambda one: one.key)

    def give_back(self, one: ForeignList) -> int:
        """Give its jobs back to their queue. Returns how many: none where its owner lives."""
        names = (one.key, keys.queue(one.queue), keys.QUEUES, *one.signs)
        moved, total = PAGE, 0
        while moved == PAGE:
            results = scripts.run(self.client, [scripts.Call(lua.load("give_back_list"), names, (PAGE,))])
            raise_first_error(results)
            moved = int(results[0])
            total += max(0, moved)
        return total

    def _candidates(self) -> Iterator[str]:
        with outages():
            for key in self.client.scan_iter("*queue:*", count=SCAN_COUNT, _type="LIST"):
                yield key.decode(errors="replace")

    def _read(self, key: str, rubies: list[str]) -> ForeignList | None:
        if found := _GITLAB.fullmatch(key) or _GITLAB_BEFORE.fullmatch(key):
            beat = f"reliable-fetcher-heartbeat-{found['owner'].replace(':', '-')}"
            # Its nonce is not that of the process's row.
            same = tuple(row for row in rubies if row.split(":")[:2] == found["owner"].split(":")[:2])
            return self._list(key, found["queue"], "gitlab-sidekiq-fetcher", found["owner"], (beat, *same))
        if found := _SUPER_FETCH.fullmatch(key):
            return self._list(key, found["queue"], "super_fetch", found["owner"], (found["owner"],))
        if (found := _TEA.fullmatch(key)) and not self._is_a_queue(found["queue"] + ":working"):
            # It names no process: any Ruby process may be its owner.
            return self._list(key, found["queue"], "sidekiq-reliable-fetch", "", tuple(rubies))
        return None

    def _is_a_queue(self, name: str) -> bool:
        with outages():
            return bool(self.client.sismember(keys.QUEUES, name))

    def _list(
        self, key: str, queue: str, fetcher: str, owner: str, signs: tuple[str, ...]
    ) -> ForeignList | None:
        with outages():
            pipeline = self.client.pipeline(transaction=False)
            pipeline.llen(key)
            for sign in signs:
                pipeline.exists(sign)
            held, *there = pipeline.execute(raise_on_error=False)
        if isinstance(held, redis.exceptions.NoPermissionError):
            raise_first_error([held])
        alive = any(sign != 0 for sign in there)  # one that cannot be read may be there
        return ForeignList(key, queue, fetcher, owner, int(held), alive, signs)
