"""Reads what is known of lines: which limit each belongs to, and the queues of its first jobs."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import redis

from bridge import errors
from bridge.limits.gates import Gate, Gates, Limits
from bridge.limits.key_path import ALL
from bridge.redis.outages import outages
from bridge.sidekiq import keys
from bridge.sidekiq.payload.job import SidekiqJob

PAGE = 500
#: Lines of which this process remembers the limit that jobs brought along.
MOST_KNOWN = 20_000
#: Jobs at the head of a line, whose queues a move may need.
HEADS = 10
NO_NAMES: Mapping[str, bool] = {}


def readable(names: Sequence[bytes]) -> list[str]:
    """Names of lines, without those that only another client can have written: they are not UTF-8."""
    found = (name.decode(errors="replace") for name in names)
    return [name for name, raw in zip(found, names, strict=True) if name.encode() == raw]


class LineReader:
    """``know`` is for the consumer's thread, everything else for the thread of the lines."""

    def __init__(self, client: redis.Redis, limits: Limits) -> None:
        self._client = client
        self._limits = limits
        self._known: OrderedDict[str, Gate] = OrderedDict()

    def know(self, gates: Gates) -> None:
        """A job waits at one of these gates."""
        for gate in gates:
            if gate.limit.name not in self._limits.by_name:
                self._known[gate.line] = gate
        while len(self._known) > MOST_KNOWN:
            self._known.popitem(last=False)

    def time(self) -> float:
        """Redis TIME in s."""
        with outages():
            seconds, micros = self._client.time()
        return float(seconds) + float(micros) / 1e6

    def all_lines(self) -> list[str]:
        """Names of all lines."""
        with outages():
            found: Any = self._client.zrange(keys.WAITING, 0, -1)
        return readable(found)

    def overdue(self, now: float, most: int) -> list[str]:
        """Lines whose time has come."""
        with outages():
            found: Any = self._client.zrangebyscore(keys.WAITING, "-inf", f"{now:.6f}", start=0, num=most)
        return readable(found)

    def limit_name(self, line: str, names: Mapping[str, bool] = NO_NAMES) -> str | None:
        """The longest of the known names that this line's name begins with.

        Only a limit with a key has other lines than ``<name>:all``: ``A::B:all`` is not a line of class A.
        """
        known = {name: limit.key is not None for name, limit in self._limits.by_name.items()}
        found = [name for name, has_key in {**names, **known}.items() if is_line_of(name, line, has_key)]
        return max(found, key=len, default=None)

    def gates(self, lines: Iterable[str]) -> dict[str, Gate]:
        """The gates of those lines that this process knows."""
        found: dict[str, Gate] = {}
        for line in lines:
            name = self.limit_name(line)
            if name is not None:
                found[line] = Gate(self._limits.by_name[name], line[len(name) + 1 :])
            elif line in self._known:
                found[line] = self._known[line]
        return found

    def own_gates(self, lines: Sequence[str]) -> dict[str, Gate]:
        """The gates of lines whose first job brings the limit along."""
        found = {}
        for line, payload in zip(lines, self._heads(lines), strict=True):
            gates = self._gates_of(payload) if payload is not None else ()
            if gate := next((gate for gate in gates if gate.line == line), None):
                found[line] = self._known[line] = gate
        return found

    def _gates_of(self, payload: bytes) -> Gates:
        try:
            job = SidekiqJob.parse(payload)
        except errors.PayloadError:
            return ()
        return self._limits.gates(job, job.queue or "default")

    def _heads(self, lines: Sequence[str]) -> list[bytes | None]:
        """The payload of the first job of each line that is still in schedule."""
        found = []
        for line in lines:
            with outages():
                head: Any = self._client.zrange(keys.gate(line)[2], 0, 0, withscores=True)
                entries: Any = [
                    payload
                    for member, score in head
                    for payload in self._client.zrangebyscore(keys.SCHEDULE, score, score)
                    if member.split(b" ", 1)[0] in payload
                ]
            found.append(entries[0] if entries else None)
        return found

    def queues(self, gates: Mapping[str, Gate], *, exact: bool) -> dict[str, tuple[str, ...]]:
        """Keys of the queues of each line. ``exact``: read those of its first jobs, too."""
        seen = {line: self._limits.seen_queues(gate.limit.name) for line, gate in gates.items()}
        if not exact and all(seen.values()):
            return seen
        with outages():
            pipeline = self._client.pipeline(transaction=False)
            for gate in gates.values():
                pipeline.zrange(gate.keys[2], 0, HEADS - 1)
            heads = pipeline.execute()
        return {
            line: tuple(dict.fromkeys([*seen[line], *map(_queue_key, members)]))
            for line, members in zip(gates, heads, strict=True)
        }

    def drop_stale_places(self, gates: Iterable[Gate]) -> None:
        """Free places of workers that do not hold the job: Redis came back with an older state."""
        limited = [gate for gate in gates if gate.limit.concurrency is not None]
        if not limited:
            return
        with outages():
            pipeline = self._client.pipeline(transaction=False)
            for gate in limited:
                pipeline.zrangebyscore(gate.keys[0], "+inf", "+inf", start=0, num=PAGE)
            holders = [
                (gate.keys[0], name)
                for gate, found in zip(limited, pipeline.execute(), strict=True)
                for name in found
            ]
            for _, name in holders:
                identity, _, token = name.decode().rpartition("/")
                pipeline.hexists(keys.inflight(identity), token)
            held = pipeline.execute()
            stale = [holder for holder, is_held in zip(holders, held, strict=True) if not is_held]
            for key, name in stale:
                pipeline.zrem(key, name)
            pipeline.execute()


def is_line_of(name: str, line: str, has_key: bool) -> bool:
    """Whether the jobs of this limit can wait in this line."""
    return line.startswith(f"{name}:") if has_key else line == f"{name}:{ALL}"


def _queue_key(member: bytes) -> str:
    return keys.queue(member.split(b" ", 1)[-1].decode(errors="replace"))
