"""Which of the waiting jobs are meant."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase

from bridge.sidekiq.api.entries import Entry


def _is_plain(text: str) -> bool:
    """Whether JSON writes it as it is; JSON may write others with escapes."""
    return re.fullmatch(r"[A-Za-z0-9_:]+", text) is not None


def _longest_piece(pattern: str) -> str:
    """A text that every matching name holds. Empty where there is none: mailers are shown as Class#method."""
    return "" if set("[?#") & set(pattern) else max(pattern.split("*"), key=len)


@dataclass(frozen=True, slots=True)
class Filters:
    """All that is said must hold; of several values for one thing any will do."""

    jids: frozenset[str] = frozenset()
    classes: tuple[str, ...] = ()
    """Names as the Web UI shows them, or of the classes inside; ``*`` stands for anything."""
    errors: tuple[str, ...] = ()
    """Parts of the error's class or message, in any case."""
    older_than_seconds: float | None = None
    newer_than_seconds: float | None = None

    @property
    def is_everything(self) -> bool:
        """Whether nothing is left out."""
        return self == Filters()

    @property
    def needles(self) -> tuple[bytes, ...]:
        """Texts of which the bytes of every matching job hold one; empty where no text is certain."""
        texts = tuple(self.jids) or tuple(map(_longest_piece, self.classes))
        return tuple(text.encode() for text in texts) if all(map(_is_plain, texts)) else ()

    def takes(self, entry: Entry, now: float) -> bool:
        """Whether this job is meant; ``now`` in epoch seconds. One without a time is of no age."""
        return (
            (not self.jids or entry.job.jid in self.jids)
            and (not self.classes or self._has_class(entry))
            and (not self.errors or self._has_error(entry))
            and self._has_age(entry, now)
        )

    def _has_class(self, entry: Entry) -> bool:
        job = entry.job
        names = {name for name in (job.display_class, job.wrapped, job.job_class) if name}
        return any(fnmatchcase(name, pattern) for name in names for pattern in self.classes)

    def _has_error(self, entry: Entry) -> bool:
        fields = entry.job.fields
        text = f"{fields.get('error_class') or ''}: {fields.get('error_message') or ''}".lower()
        return any(part.lower() in text for part in self.errors)

    def _has_age(self, entry: Entry, now: float) -> bool:
        if self.older_than_seconds is None and self.newer_than_seconds is None:
            return True
        if entry.since is None:
            return False
        age = now - entry.since
        return (self.older_than_seconds is None or age >= self.older_than_seconds) and (
            self.newer_than_seconds is None or age <= self.newer_than_seconds
        )
