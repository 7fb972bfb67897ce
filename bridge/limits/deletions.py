"""Jobs that a person deletes while they wait in one line and keep a place at a narrower limit."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import redis

from bridge.limits import calls
from bridge.limits.line_reader import readable
from bridge.redis import scripts
from bridge.redis.outages import outages, raise_first_error
from bridge.sidekiq import keys

#: Lines that one look compares with ``schedule``.
LINES_AT_ONCE = 20
PAGE = 100
#: As in ``limit_line.lua``.
PARKED_SECONDS = 600.0


class Deletions:
    """For the thread of the lines. A look costs one command while no job keeps a place."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._looked_at = 0

    def freed(self) -> set[str]:
        """Free the places that deleted jobs kept. Returns the lines where other jobs may go now."""
        with outages():
            facts: Any = self._client.hkeys(keys.LINES)
        lines = sorted(readable([fact[1:] for fact in facts if fact[:1] == b"="]))
        if not lines:
            return set()
        begin = self._looked_at % len(lines)
        self._looked_at = begin + LINES_AT_ONCE
        looked_at = lines[begin : begin + LINES_AT_ONCE]
        answers = scripts.run(self._client, [calls.missing(looked_at)])
        raise_first_error(answers)
        freed: set[str] = set()
        for number in answers[0]:
            line = looked_at[number - 1]
            freed |= {line, *self._free(line, self._deleted(line))}
        return freed

    def _deleted(self, line: str) -> list[tuple[bytes, float]]:
        """Id and score of each job of a line that is not in ``schedule``. They leave the line."""
        found: list[tuple[bytes, float]] = []
        begin: Any = "(+inf"
        while begin:
            answers = scripts.run(self._client, [calls.shift(line, begin, 0.0, PAGE)])
            raise_first_error(answers)
            lowest, *gone = answers[0]
            found += zip(gone[::2], map(float, gone[1::2]), strict=True)
            begin = lowest and f"({lowest.decode()}"
        return found

    def _free(self, line: str, deleted: Iterable[tuple[bytes, float]]) -> set[str]:
        """The place in this line is noted: the job may be in its queue again ("Add to queue")."""
        freed: set[str] = set()
        with outages():
            renewed_us: Any = self._client.hget(keys.LINES, line)
            for job, score in deleted:
                claimed_at = score - PARKED_SECONDS - int(renewed_us or 0) / 1e6
                kept: Any = self._client.hget(keys.LINES, b"#" + job)
                narrower = readable(kept.split(b"\n")) if kept else []
                pipeline = self._client.pipeline(transaction=True)
                pipeline.hdel(keys.LINES, b"#" + job)
                pipeline.zadd(keys.gate(line)[1], {b"@" + job: -claimed_at})
                pipeline.expire(keys.gate(line)[1], int(2 * PARKED_SECONDS))
                for each in narrower:
                    pipeline.zrem(keys.gate(each)[1], job, b"@" + job)
                pipeline.execute()
                freed.update(narrower)
        return freed
