"""A notice: how a job ended outside of Ruby, for the Ruby code that Sidekiq would have called at that end.

A notice waits in ``bridge:notices``. A worker sends it to a sidecar, and removes it after the reply.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bridge.sidekiq.payload import ruby_json

#: Longest list; the scripts drop the oldest notice beyond that.
MOST = 10_000
#: From then on only deaths are added: failures must not push them out while no sidecar answers.
MOST_WITH_FAILURES = 5_000
MESSAGE_CHARS = 10_000
_UNSAFE = re.compile(r"[^\w:./-]", re.ASCII)


class Death(enum.Enum):
    """Which of the app's code runs for a dead job."""

    EXHAUSTED = "exhausted"
    """``sidekiq_retries_exhausted`` of the class, then the death handlers: the rules gave the job up."""
    KILLED = "killed"
    """The death handlers alone: no retry was allowed, or a person ended the job (``DeadSet#kill``)."""


class Context(enum.Enum):
    """Why Sidekiq would call the error handlers."""

    FAILED = "failed"
    MALFORMED = "malformed"


@dataclass(frozen=True, slots=True)
class Notice:
    """What Ruby is told of one end. ``fields`` are what this end sets in the payload."""

    error_class: str
    message: str
    backtrace: tuple[str, ...] = ()
    fields: Mapping[str, Any] = field(default_factory=dict)
    death: Death | None = None
    errors: Context | None = None

    @property
    def most(self) -> int:
        """How long the list may be, as ``notice.lua`` takes it."""
        return -MOST_WITH_FAILURES if self.death is None else MOST

    def entry(self, id_: str, queue: str, payload: bytes) -> bytes:
        """The notice as Redis holds it: one line of JSON, then the exact payload.

        ``id_`` is the name of the delivery, or any other unique text.
        """
        head: dict[str, Any] = {
            "id": _UNSAFE.sub("_", id_),
            "format": 1,
            "queue": queue,
            "death": self.death and self.death.value,
            "errors": self.errors and self.errors.value,
            "error": {"class": self.error_class, "message": self.message[:MESSAGE_CHARS]},
            "backtrace": list(self.backtrace),
            "fields": dict(self.fields),
        }
        return ruby_json.encode({name: value for name, value in head.items() if value}) + b"\n" + payload


def refused(error_class: str, reason: str) -> Notice:
    """For a job that will never run here: its class is not looked up."""
    fields = {"error_class": error_class, "error_message": reason}
    return Notice(error_class, reason, fields=fields, death=Death.KILLED)


#: A job that a person ended for good.
REVOKED = Notice("Bridge::Cancelled", "cancelled by revoke", death=Death.KILLED)
#: As ``DeadSet#kill`` says it.
KILLED = Notice("RuntimeError", "Job killed by API", death=Death.KILLED)


def malformed(reason: str) -> Notice:
    """For a payload that Ruby cannot run: Sidekiq calls the error handlers, and no death handler."""
    return Notice("Bridge::InvalidPayload", reason, errors=Context.MALFORMED)
