"""The target of log lines: stdout, or a file that the worker or logrotate rotates."""

from __future__ import annotations

import logging
import os
import sys
from logging.handlers import RotatingFileHandler, WatchedFileHandler
from typing import TYPE_CHECKING, Any

from bridge.monitoring.log_text import UNWRITABLE, tolerant

if TYPE_CHECKING:
    from bridge.settings import Settings


class RotatingFile(RotatingFileHandler):
    """Rotates by size in the worker's own process; pool processes follow the file to its new name."""

    def __init__(self, path: str, largest_bytes: int, kept: int) -> None:
        super().__init__(path, maxBytes=largest_bytes, backupCount=kept, encoding="utf-8", errors=UNWRITABLE)
        self._owner_pid = os.getpid()

    def shouldRollover(self, record: logging.LogRecord) -> bool:  # noqa: N802 (logging's name)
        """Two processes that both rename would lose lines."""
        if os.getpid() == self._owner_pid:
            return bool(super().shouldRollover(record))
        self._follow()
        return False

    def _follow(self) -> None:
        try:
            current = os.stat(self.baseFilename)
        except FileNotFoundError:
            return  # the parent is just making it
        if self.stream and os.fstat(self.stream.fileno()).st_ino != current.st_ino:
            self.stream.close()
            self.stream = self._open()


def target(settings: Settings, asked_for: Any) -> logging.Handler:
    """The file of ``-f``, else that of the settings, else stdout."""
    if hasattr(asked_for, "write"):
        return logging.StreamHandler(tolerant(asked_for))
    if asked_for:
        return WatchedFileHandler(asked_for, encoding="utf-8", errors=UNWRITABLE)
    if settings.log_file is None:
        return logging.StreamHandler(tolerant(_own(sys.__stdout__)))
    if settings.log_file_megabytes is None:
        return WatchedFileHandler(settings.log_file, encoding="utf-8", errors=UNWRITABLE)
    return RotatingFile(
        str(settings.log_file), int(settings.log_file_megabytes * 1_000_000), settings.log_files_kept
    )


def _own(stream: Any) -> Any:
    """A stream of our own to the same place: a job may close ``sys.stdout``."""
    try:
        return os.fdopen(os.dup(stream.fileno()), "w", encoding=stream.encoding, errors=stream.errors)
    except (AttributeError, OSError, ValueError):
        return stream  # not a file


def is_json(settings: Settings, handler: logging.Handler) -> bool:
    """Whether lines are objects; ``auto`` writes text for eyes only."""
    if settings.log_format != "auto":
        return settings.log_format == "json"
    stream = getattr(handler, "stream", None)
    return not (stream is not None and stream.isatty())
