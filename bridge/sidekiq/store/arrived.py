"""Jobs that Redis has moved to a watch of a worker: their lists. ``arrived_settlement`` settles them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from bridge.redis import scripts
from bridge.redis.outages import outages, raise_first_error
from bridge.sidekiq import keys
from bridge.sidekiq.store import lua
from bridge.sidekiq.store.arrived_settlement import enter_call, entry_prefix
from bridge.sidekiq.store.claims import ArrivedList, Claimed
from bridge.sidekiq.store.script_calls import ScriptCalls

#: Tokens of a dead worker's arrived jobs: the first is greater than any that it used. Each list has its own.
FIRST_TOKEN, TOKENS_OF_A_LIST = 2**52, 100_000
#: In the place of a name: some names are lost. See ``arrived_open.lua``.
NAMES_LOST = "0:"
#: Keys that one step of a search looks at.
SCAN_COUNT = 1000

EnterJob = tuple[str, str, int, str, bytes]
"""Key of the list, and identity, token, queue and payload of a job."""


class ArrivedJobs(ScriptCalls):
    """The store's side of these lists. Each method raises StoreError."""

    def open_arrived(self, home: ArrivedList, announced: int = 0) -> bool:
        """Announce a list. False where the worker's lease is gone.

        ``announced``: how many lists of this worker Redis should know already.
        """
        names = (keys.LEASE, keys.arrived(home.identity))
        call = scripts.Call(lua.load("arrived_open"), names, (home.identity, home.watch, announced))
        return bool(self._one(call))

    def enter_arrived(self, jobs: Sequence[EnterJob]) -> None:
        """Move jobs from their lists into the hashes of their workers. A list may not hold a job any more."""
        calls = [
            enter_call(keys.inflight(identity), key, token, queue, payload)
            for key, identity, token, queue, payload in jobs
        ]
        raise_first_error(scripts.run(self.client, calls))

    def fence_arrived(
        self,
        home: ArrivedList,
        first_token: int,
        known: Sequence[tuple[int, bytes]] = (),
        *,
        ended: bool = False,
    ) -> list[bytes]:
        """Close a list for good: its jobs enter the hash, and Redis refuses its watch.

        ``known``: token and payload of jobs that the worker holds. The others get the tokens from
        ``first_token`` on; returns their payloads. ``ended``: no command of the watch is on its way any more.
        """
        ended = ended or home.watch == NAMES_LOST  # no watch has that list
        call = scripts.Call(
            lua.load("arrived_fence"),
            (keys.inflight(home.identity), home.key, keys.arrived(home.identity)),
            (
                home.watch,
                entry_prefix(home.queue),
                0 if ended else keys.ARRIVED_FENCE_TTL_SECONDS,
                first_token,
                *(word for job in known for word in job),
            ),
        )
        found: list[bytes] = self._one(call)
        return found

    def fence_all_arrived(self, identity: str) -> None:
        """The same for every list of a dead worker. Its lease was taken, so it announces no more."""
        homes = self.arrived_lists(identity)
        # A search reads the name of every key of this Redis. So only where Redis has lost names of lists: all
        # of them, or some (it was emptied while watches were open, and the worker has announced more since).
        if not homes or any(home.watch == NAMES_LOST for home in homes):
            homes += [home for home in self._search(identity) if home not in homes]
        for number, home in enumerate(homes):
            self.fence_arrived(home, FIRST_TOKEN + number * TOKENS_OF_A_LIST)

    def arrived_lists(self, identity: str) -> list[ArrivedList]:
        """The lists that a worker has announced and not closed."""
        with outages():
            found: Any = self.client.smembers(keys.arrived(identity))
        return [ArrivedList.of(identity, watch.decode(errors="replace")) for watch in sorted(found)]

    def _search(self, identity: str) -> list[ArrivedList]:
        """Lists of a dead worker, by their keys: Redis has lost their names, or an older release ran it."""
        prefix = keys.arrived_list(identity, "")
        pattern = re.sub(r"([\[\]*?\\])", r"\\\1", prefix) + "*"
        with outages():
            found = list(self.client.scan_iter(pattern, count=SCAN_COUNT, _type="list"))
        names = sorted(name.decode(errors="replace").removeprefix(prefix) for name in found)
        return [ArrivedList.of(identity, name) for name in names]

    def arrived(self, identity: str) -> list[Claimed]:
        """The jobs in the lists of a worker; their tokens are only names."""
        homes = self.arrived_lists(identity)
        if not homes:
            return []
        with outages():
            pipeline = self.client.pipeline(transaction=False)
            for home in homes:
                pipeline.lrange(home.key, 0, -1)
            found = pipeline.execute(raise_on_error=False)  # a list that is closed is a string
        jobs = [
            (home.queue, payload)
            for home, payloads in zip(homes, found, strict=True)
            for payload in (payloads[::-1] if isinstance(payloads, list) else ())
        ]
        return [Claimed(*job, FIRST_TOKEN + number) for number, job in enumerate(jobs)]
