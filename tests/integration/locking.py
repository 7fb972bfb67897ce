"""A client middleware as apps have it: unique jobs. Halts what it has seen before and not seen run."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from bridge.sidekiq.schedule.due_entry import Passed


class Locking:
    """Takes a lock for each job, and halts where it is there already."""

    active = True

    def __init__(self, client: Any) -> None:
        self._client = client
        self.meanwhile: Callable[[], object] = lambda: None
        self.seen: list[str] = []

    def __call__(self, members: Sequence[bytes]) -> list[Passed]:
        found = [self.pass_one(json.loads(member)["jid"]) for member in members]
        self.meanwhile()
        return found

    def pass_one(self, jid: str) -> Passed:
        self.seen.append(jid)
        free = self._client.set(f"lock:{jid}", 1, nx=True)
        return Passed({"locked": True}, ()) if free else Passed({}, (), halted=True)

    def run(self, jid: str) -> None:
        """Server middleware: the job has begun."""
        self._client.delete(f"lock:{jid}")
