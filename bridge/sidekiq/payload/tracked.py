"""Which jobs are tracked: their progress and their result are stored by jid."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from bridge.sidekiq.payload.job import SidekiqJob

#: Field of a payload: true or false decide for this job, whatever its class says.
FIELD = "bridge_track"
#: Stands for every class in ``BRIDGE_TRACK``.
EVERY = "*"


class _Every(set[Any]):
    def __contains__(self, name: object) -> bool:
        return True


class Tracked:
    """Says which jobs are tracked.

    A caller on the hot path first looks for the class in ``classes`` and for ``FIELD`` in the payload.
    """

    def __init__(self, classes: Iterable[str] = ()) -> None:
        names = set(classes)
        self.classes = _Every(names) if EVERY in names else names

    def __contains__(self, job: SidekiqJob) -> bool:
        own = job.fields.get(FIELD)
        is_wanted = job.native_class in self.classes if own is None else bool(own)
        return is_wanted and job.jid is not None

    def flags(self, job: SidekiqJob) -> tuple[bool, bool]:
        """The flags ``tracked`` and ``shadowed`` of its delivery."""
        return job in self, False

    def set(self, name: str, *, wanted: bool) -> None:
        """Track the jobs of this class, or not."""
        (self.classes.add if wanted else self.classes.discard)(name)


NOTHING = Tracked()
