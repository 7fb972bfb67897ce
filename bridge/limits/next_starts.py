"""The next start of each rate that this process uses: a timer for its line."""

from __future__ import annotations

import threading
from collections.abc import Iterable

from bridge.limits.gates import Gate


class NextStarts:
    """Two threads set timers side by side: the one that asks for places, and the one that moves the lines.

    So the answer that comes last is not always the newest. A timer that has been set is moved to an earlier
    time only, and a timer that ends too early costs one look at its line. A start is never late for it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._timers: dict[str, tuple[float, Gate]] = {}
        """Lines with the Redis TIME in s at which they may go on."""

    def set(self, gates: Iterable[Gate], at: float) -> bool:
        """``at``: Redis TIME in s. Whether one of these gates has a rate."""
        rates = [gate for gate in gates if gate.limit.interval is not None]
        if rates:
            with self._lock:
                for gate in rates:
                    before = self._timers.get(gate.line)
                    if before is None or at < before[0]:
                        self._timers[gate.line] = (at, gate)
        return bool(rates)

    def due(self, now: float) -> dict[str, Gate]:
        """The lines whose time has come, once."""
        if not self._timers:
            return {}
        with self._lock:
            found = {line: gate for line, (at, gate) in self._timers.items() if at <= now}
            for line in found:
                del self._timers[line]
        return found

    def first(self) -> float | None:
        """The Redis TIME in s of the first one; None: there are none."""
        with self._lock:
            return min((at for at, _ in self._timers.values()), default=None)
