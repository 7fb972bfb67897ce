"""The decisions about a job after its run: the pool side decides, the store carries them out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from bridge.sidekiq.outcome.notice import Notice

POISON_PILL_LIMIT = 3


@dataclass(frozen=True, slots=True)
class DeadLimits:
    """When a job is buried unasked, and the trims of the dead set, as Sidekiq applies them at each burial.

    Sidekiq's trim is off by one: at most ``max_jobs - 1`` entries stay.
    """

    max_jobs: int = 10_000
    timeout_seconds: int = 15_552_000
    poison_pill: int = POISON_PILL_LIMIT
    """A job that was orphaned this often within 72 h is buried; 0: none is."""


class Result(NamedTuple):
    """The result of a tracked job, as JSON; ``lost`` says why it cannot be stored."""

    json: bytes
    lost: str = ""


@dataclass(frozen=True, slots=True)
class Done:
    """Performed. Counts as processed."""

    result: Result | None = field(default=None, compare=False)
    """The result of a tracked job."""
    expired: bool = False
    """Whether the job was too old to run."""
    ignored: bool = field(default=False, compare=False)
    """Whether the code has raised Celery's ``Ignore``: no other job follows this one."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Failed; goes to the ``retry`` set. Counts as processed and failed."""

    at: float
    """Epoch seconds of the next attempt."""
    payload: bytes
    notice: Notice | None = field(default=None, compare=False)
    """For Ruby, of a failure that Ruby did not see."""


@dataclass(frozen=True, slots=True)
class Bury:
    """Goes to the ``dead`` set. Counts as processed and failed, unless nothing was run (``ran=False``)."""

    payload: bytes
    limits: DeadLimits | None = None
    """None: those of the Sidekiq we work beside."""
    ran: bool = True
    notice: Notice | None = field(default=None, compare=False)
    """For Ruby, of a death that Ruby did not decide."""


@dataclass(frozen=True, slots=True)
class Discard:
    """Failed (or cancelled) and goes nowhere. Counts as processed and failed."""

    notice: Notice | None = field(default=None, compare=False)
    """For Ruby, of an end that Ruby did not decide."""
    error: tuple[str, str] | None = field(default=None, compare=False)
    """Class and message, where Ruby decided it: no payload carries them on."""


@dataclass(frozen=True, slots=True)
class Interrupt:
    """An iterable job stopped at a checkpoint: pushed behind its queue. Counts as processed and failed."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class GiveBack:
    """Not run, or stopped by a shutdown: back to the end of its queue that runs next. Counts as nothing."""

    unknown_outcome: bool = False
    """The job may have run: counted in ``bridge:recovered:<jid>``, which buries it when that is too often."""
    may_run: bool = False
    """A sidecar may run it still, or know its end: the next delivery asks all of them. Not counted."""


@dataclass(frozen=True, slots=True)
class Postpone(GiveBack):
    """Over a limit of sidekiq-throttled: behind a queue, or into ``schedule``. Counts as nothing."""

    queue: str = ""
    """The queue behind which it goes; empty: its own."""
    at: float | None = None
    """Epoch seconds in ``schedule``; None: at once, behind the queue."""
    payload: bytes = b""
    """The entry in ``schedule``; empty: its own bytes."""
    pause_seconds: float = 0.0
    """For how long its own queue is not worth a look."""


Decision = Done | Retry | Bury | Discard | Interrupt | GiveBack
