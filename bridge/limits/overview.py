"""Shows what is in use and what waits, at each limit and key."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import redis

from bridge.limits.declaration import Limit
from bridge.limits.declarers import Declarers
from bridge.limits.gates import Gate, Limits
from bridge.limits.key_path import ALL
from bridge.limits.line_reader import LineReader, is_line_of, readable
from bridge.redis.outages import outages
from bridge.sidekiq import keys

SCANNED_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class LineStatus:
    """One limit for one key."""

    limit: str
    key: str
    concurrency: int | None
    rate: str | None
    in_use: int
    reserved: int
    """Places that are kept for jobs on their way from the line."""
    waiting: int
    next_jid: str | None
    next_in_seconds: float | None
    """Until the rate allows the next start; None without a rate."""
    declared_by: int
    """How many living processes declare it. 0: the jobs bring it along, or it is gone."""


@dataclass(frozen=True, slots=True)
class _Found:
    name: str
    key: str
    limit: Limit | None


class Overview:
    """Reads all limits. For a person: it scans the keys of Redis."""

    def __init__(self, client: redis.Redis, own: Sequence[Limit] = ()) -> None:
        """``own``: limits of the settings of this process, shown though no worker declares them."""
        self._client = client
        self._reader = LineReader(client, Limits(own))
        self._own = own

    def lines(self) -> list[LineStatus]:
        """Lines with waiting jobs first, then those in use, then declared limits without a job."""
        declared = self._declared()
        by_name = {name: limit for name, (limit, _) in declared.items()}
        found = [self._found(line, by_name) for line in sorted(self._names())]
        seen = {one.name for one in found}
        found += [_Found(name, "", limit) for name, limit in by_name.items() if name not in seen]
        statuses = self._read(found, {name: count for name, (_, count) in declared.items()})
        return sorted(statuses, key=lambda one: (-one.waiting, -one.in_use - one.reserved))

    def _declared(self) -> dict[str, tuple[Limit, int]]:
        found: dict[str, tuple[Limit, int]] = {limit.name: (limit, 0) for limit in self._own}
        for limit in Declarers(self._client).limits():
            found[limit.name] = (limit, found.get(limit.name, (limit, 0))[1] + 1)
        return found

    def _names(self) -> set[str]:
        names = set(self._reader.all_lines())
        with outages():
            for prefix in keys.gate(""):
                scanned = self._client.scan_iter(f"{prefix}*", count=SCANNED_AT_ONCE)
                names.update(name.removeprefix(prefix) for name in readable(list(scanned)))
        return names

    def _found(self, line: str, declared: Mapping[str, Limit]) -> _Found:
        found = [name for name, limit in declared.items() if is_line_of(name, line, limit.key is not None)]
        name = max(found, key=len, default=None)
        if name is not None:
            return _Found(name, line[len(name) + 1 :], declared[name])
        gate: Gate | None = self._reader.own_gates([line]).get(line)
        if gate is not None:
            return _Found(gate.limit.name, gate.key, gate.limit)
        # Without a waiting job only the class of a limit that jobs bring along can be guessed.
        name, _, key = line.rpartition(":")
        return _Found(name, key, None)

    def _read(self, found: Iterable[_Found], counts: Mapping[str, int]) -> list[LineStatus]:
        found = list(found)
        with outages():
            pipeline = self._client.pipeline(transaction=False)
            pipeline.time()
            for one in found:
                places, reserved, waiting, starts = keys.gate(f"{one.name}:{one.key or ALL}")
                pipeline.zrange(places, 0, -1, withscores=True)
                pipeline.zrange(reserved, 0, -1, withscores=True)
                pipeline.zcard(waiting)
                pipeline.zrange(waiting, 0, 0)
                pipeline.lindex(starts, 0)
            (seconds, micros), *answers = pipeline.execute()
        now = seconds + micros / 1e6
        return [
            _status(one, answers[5 * at : 5 * at + 5], now, counts.get(one.name, 0))
            for at, one in enumerate(found)
        ]


def _status(one: _Found, answers: Sequence[Any], now: float, declared_by: int) -> LineStatus:
    places, reserved, waiting, head, next_start = answers
    limit = one.limit
    has_rate = next_start is not None or (limit is not None and limit.rate is not None)
    return LineStatus(
        limit=one.name,
        key=one.key,
        concurrency=limit.concurrency if limit else None,
        rate=limit.rate if limit else None,
        in_use=sum(till > now for _, till in places),
        reserved=sum(till > now for _, till in reserved),
        waiting=waiting,
        next_jid=head[0].split(b" ", 1)[0].decode(errors="replace") if head else None,
        next_in_seconds=max(0.0, float(next_start or 0) - now) if has_rate else None,
        declared_by=declared_by,
    )
