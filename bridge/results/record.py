"""A result hash as a typed value."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

QUEUED, RUNNING, DONE, RETRY, DEAD = "queued", "running", "done", "retry", "dead"
#: A job in one of these does not change any more, unless a person retries it.
FINISHED = frozenset([DONE, DEAD])
#: Class of the error of a job that a person ended (``revoke``).
REVOKED_CLASS = "Bridge::Cancelled"


@dataclass(frozen=True, slots=True)
class Record:
    """One tracked job, as ``bridge:result:<jid>`` says it. Times are epoch seconds."""

    jid: str
    status: str
    job_class: str = ""
    language: str = ""
    """``python`` or ``ruby``; empty until it has run."""
    at: float | None = None
    total: float | None = None
    message: str = ""
    result: str | None = None
    """JSON; None until the job is done, and where its result could not be stored."""
    lost: str = ""
    """Why the result of a job that is done could not be stored."""
    error_class: str = ""
    error_message: str = ""
    state: str = ""
    """A state of the task's own (``self.update_state``)."""
    meta: str | None = None
    """The details of that state, as JSON."""
    children: str = "[]"
    """The jids of the jobs that its settlement has pushed, as JSON."""
    queued_at: float | None = None
    started_at: float | None = None
    finished_at: float | None = None
    updated_at: float | None = None

    @classmethod
    def of(cls, jid: str, fields: Mapping[bytes, bytes]) -> Record | None:
        """Read a hash; None where there is none. Any value may be in it."""
        text = {name.decode("utf-8", "replace"): _text(value) for name, value in fields.items()}
        if not text.get("status"):
            return None
        numbers = {name: _number(text.get(name)) for name in _NUMBERS}
        words = {name: text[name] for name in _WORDS if name in text}
        return cls(
            jid,
            text["status"],
            text.get("class", ""),
            result=text.get("result"),
            meta=text.get("meta"),
            **numbers,  # type: ignore[arg-type]
            **words,  # type: ignore[arg-type]
        )

    @property
    def is_finished(self) -> bool:
        """Whether the job has come to its end."""
        return self.status in FINISHED

    @property
    def was_revoked(self) -> bool:
        """Whether a person ended it."""
        return self.status == DEAD and self.error_class == REVOKED_CLASS

    @property
    def value(self) -> Any:
        """The result, decoded. None where there is none."""
        return None if self.result is None else json.loads(self.result)

    @property
    def child_jids(self) -> list[str]:
        """The jobs that its settlement has pushed."""
        found = json.loads(self.children)
        return [str(jid) for jid in found] if isinstance(found, list) else []

    @property
    def progress(self) -> dict[str, Any]:
        """The progress that the job has told."""
        own = _object(self.meta)
        told = {"at": self.at, "total": self.total, "message": self.message or None}
        return {**{name: value for name, value in told.items() if value is not None}, **own}


_NUMBERS = ("at", "total", "queued_at", "started_at", "finished_at", "updated_at")
_WORDS = ("language", "message", "lost", "error_class", "error_message", "state", "children")


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None


def _object(text: str | None) -> dict[str, Any]:
    try:
        found = json.loads(text) if text else {}
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {"meta": found}
