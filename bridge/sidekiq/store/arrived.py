"""Jobs that Redis has moved to a watch of a worker: their lists, and how they are settled.

Such a job is held, and is not in the worker's hash yet. Most end there: ``settle_arrived.lua`` is the one
script call of their life. Any other settlement enters the job into the hash first, in the same round trip.
"""

from __future__ import annotations

import functools
import re
import time
from collections.abc import Callable, Sequence
from typing import Any

from bridge.redis import scripts
from bridge.redis.outages import outages, raise_first_error
from bridge.sidekiq import keys
from bridge.sidekiq.outcome.decision import DeadLimits, Done
from bridge.sidekiq.store import large_claims, lua
from bridge.sidekiq.store.claims import ENTRY_VERSION, ArrivedList, Claimed
from bridge.sidekiq.store.script_calls import ScriptCalls
from bridge.sidekiq.store.settlement import Settled, Settlement, SettlementBatch
from bridge.sidekiq.store.settling_keys import processed_keys, utc_day

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
            _enter_call(keys.inflight(identity), key, token, queue, payload)
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
        call = scripts.Call(
            lua.load("arrived_fence"),
            (keys.inflight(home.identity), home.key, keys.arrived(home.identity)),
            (
                home.watch,
                _prefix(home.queue),
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


class MixedBatch:
    """As :class:`SettlementBatch`, for settlements of which some are of arrived jobs."""

    def __init__(
        self,
        settlements: Sequence[Settlement],
        dead_limits: Callable[[], DeadLimits],
        ahead: float = 0.0,
        *,
        tells_ruby: bool = False,
    ) -> None:
        def batch(members: Sequence[int]) -> SettlementBatch:
            chosen = [settlements[i] for i in members]
            return SettlementBatch(chosen, dead_limits, ahead, tells_ruby=tells_ruby)

        self._lists: dict[str, list[int]] = {}
        own: list[int] = []
        """Large jobs, each in a list of its own."""
        self._batches: list[tuple[Sequence[int], SettlementBatch]] = []
        """Settlements by other scripts than ``settle_arrived.lua``; nearly always there are none."""
        self.calls: list[scripts.Call] = []
        if rest := [i for i, settlement in enumerate(settlements) if settlement.arrived is None]:
            self._batches.append((rest, held := batch(rest)))
            self.calls += held.calls
        for i, settlement in enumerate(settlements):
            if settlement.arrived is not None and _is_short(settlement):
                key = settlement.arrived.key
                identity = settlement.identity
                is_own = key.startswith(large_claims.OWN, key.index(identity) + len(identity) + 1)
                (own if is_own else self._lists.setdefault(key, [])).append(i)
            elif settlement.arrived is not None:
                self._batches.append(([i], alone := batch([i])))
                self.calls.append(_entering(alone.calls[0], settlement.arrived.key, settlement))
        self.has_notices = any(members.has_notices for _, members in self._batches)
        """Whether a call adds a notice for Ruby, if it takes effect."""
        day = utc_day(int((time.time() + ahead) // 86_400))
        self.calls += [
            _settle_call(key, [settlements[i].payload for i in members], day)
            for key, members in self._lists.items()
        ]
        if own:
            self._lists[""] = own
            lists = [arrived.key for i in own if (arrived := settlements[i].arrived) is not None]
            self.calls.append(large_claims.settle_call(lists, day))

    def outcomes(self, results: Sequence[Any]) -> list[Settled]:
        """One outcome for each settlement, in their order."""
        answers = iter(results)
        outcomes: dict[int, Settled] = {}
        for members, batch in self._batches:
            settled = batch.outcomes([next(answers) for _ in batch.calls])
            outcomes |= zip(members, settled, strict=True)
        for members, fenced in zip(self._lists.values(), answers, strict=True):
            outcomes |= {i: _outcome(number, fenced) for number, i in enumerate(members)}
        return [outcomes[i] for i in sorted(outcomes)]


def settlement_batch(
    settlements: Sequence[Settlement],
    dead_limits: Callable[[], DeadLimits],
    ahead: float = 0.0,
    *,
    tells_ruby: bool = False,
) -> SettlementBatch | MixedBatch:
    """The calls of these settlements."""
    kind = MixedBatch if any(settlement.arrived for settlement in settlements) else SettlementBatch
    return kind(settlements, dead_limits, ahead, tells_ruby=tells_ruby)


def _is_short(settlement: Settlement) -> bool:
    arrived, decision = settlement.arrived, settlement.decision
    return (
        arrived is not None and not arrived.has_row and isinstance(decision, Done) and not settlement.effects
    )


def _outcome(number: int, fenced: Any) -> Settled:
    if not isinstance(fenced, list):
        return Settled.FAILED
    return Settled.FENCED if number in fenced else Settled.OK


def _prefix(queue: str) -> bytes:
    return b"%s\n%s\n" % (ENTRY_VERSION, queue.encode())


def _settle_call(key: str, payloads: Sequence[bytes], day: str) -> scripts.Call:
    names = (key, *processed_keys(day))
    return scripts.Call(lua.load("settle_arrived"), names, (keys.STAT_TTL_SECONDS, *payloads))


def _entering(call: scripts.Call, key: str, settlement: Settlement) -> scripts.Call:
    """One script that enters a job into the hash, the first key of each that settles, and then settles it.

    Two calls would not do: where Redis has forgotten the first script, the second would find no job.
    """
    enter = _enter_call(call.keys[0], key, *settlement[1:4])
    return scripts.Call(_composed(call.script), [*enter.keys, *call.keys], [*enter.args, *call.args])


@functools.cache
def _composed(settling: scripts.Script) -> scripts.Script:
    text = lua.text("enter_and_settle")
    for place, part in (("--@enter", lua.text("arrived_enter")), ("--@settle", settling.text.decode())):
        text = text.replace(place, part)
    return scripts.Script.of(f"arrived_enter+{settling.name}", text)


def _enter_call(inflight: str, key: str, token: int, queue: str, payload: bytes) -> scripts.Call:
    args = (token, _prefix(queue), payload)
    return scripts.Call(lua.load("arrived_enter"), (inflight, key), args)
