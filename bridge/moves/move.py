"""A move: which share of one job class runs in Python, as ``bridge:moves`` stores it.

The side of a job follows from its jid alone, so every worker gives the same answer without asking another.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

PYTHON, RUBY = "python", "ruby"
SIDES = (PYTHON, RUBY)
#: Field of a payload with the side of the attempts before, in each retry of a class that moves.
SIDE_FIELD = "bridge_side"
#: CRC32 is below this number.
_ALL = 2**32


@dataclass(frozen=True, slots=True)
class Move:
    """The move of one class. Times are epoch milliseconds."""

    job_class: str
    percent: float = 0.0
    """Share of the jids that run in Python, 0 to 100."""
    shadow: float = 0.0
    """Share of the jids whose Ruby run is repeated as a dry run in Python, 0 to 100."""
    guard: bool = True
    since_ms: int = 0
    """Begin of the counts. Another value begins them at zero."""
    changed_ms: int = 0
    is_back: bool = False
    """Whether the class was taken back: retries of Python's side run in Ruby as well."""
    reason: str = ""
    """The guard's sentence, where it took the class back."""
    is_finished: bool = False
    """Whether the move has ended: only a job that was orphaned in Ruby still goes there."""

    @classmethod
    def parse(cls, job_class: str, raw: bytes) -> Move | None:
        """The move in a field of the hash. None for what makes no sense: any client can write there."""
        try:
            said = json.loads(raw)
            return cls._of(job_class, said) if isinstance(said, dict) else None
        except (ValueError, RecursionError, TypeError, OverflowError):
            return None

    @classmethod
    def _of(cls, job_class: str, said: Mapping[str, Any]) -> Move:
        return cls(
            job_class,
            percentage(said.get("percent", 0)),
            percentage(said.get("shadow", 0)),
            said.get("guard") is not False,
            int(said.get("since_ms") or 0),
            int(said.get("changed_ms") or 0),
            said.get("is_back") is True,
            str(said.get("reason") or ""),
            said.get("is_finished") is True,
        )

    def raw(self) -> bytes:
        """The field of the hash."""
        said = asdict(self)
        del said["job_class"]
        return json.dumps(said, ensure_ascii=False).encode("utf-8", "surrogatepass")

    def side_of(self, jid: str | None, fields: Mapping[str, Any]) -> str:
        """The side that runs a job. A retry stays on its side, unless the class is back."""
        if self.is_back or jid is None:
            return RUBY
        before = side_before(fields)
        if before is not None:
            return before
        return PYTHON if _crc(jid) < self.percent / 100 * _ALL else RUBY

    def shadows(self, jid: str | None) -> bool:
        """Whether the Ruby run of this job is repeated in Python. Shadows are the last to move."""
        return jid is not None and _ALL - 1 - _crc(jid) < self.shadow / 100 * _ALL

    def at(self, now_ms: int, **changes: Any) -> Move:
        """The move with these values from now on. Counts begin at zero when a class leaves Ruby again."""
        changed = replace(self, **changes, changed_ms=now_ms)
        begins = not self.since_ms or (self.is_back and not changed.is_back)
        return replace(changed, since_ms=now_ms) if begins else changed


def side_before(fields: Mapping[str, Any]) -> str | None:
    """The side of the attempt before; None for a job that never failed.

    A worker marks each failure. One without a mark was in a Sidekiq process, so in Ruby. ``retry_on`` of an
    ActiveJob pushes a job of a new jid, and Python ignores it: such a job ran in Ruby as well.
    """
    side = fields.get(SIDE_FIELD)
    if side in SIDES:
        return str(side)
    if fields.get("retry_count") is not None:
        return RUBY
    args = fields.get("args") if "wrapped" in fields else None
    inner = args[0] if isinstance(args, list) and args else None
    return RUBY if isinstance(inner, dict) and inner.get("executions") else None


def _crc(jid: str) -> int:
    """Ruby's ``Zlib.crc32(jid)``."""
    return zlib.crc32(jid.encode("utf-8", "surrogatepass"))


def percentage(value: object) -> float:
    """A number from 0 to 100. Raises ValueError."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError("not a number")
    number = float(value)
    if not (math.isfinite(number) and 0 <= number <= 100):
        raise ValueError("not from 0 to 100")
    return round(number, 2)
