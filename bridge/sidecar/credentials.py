"""The secret and certificates between this worker and the sidecars. Changed files are read again.

So a secret and certificates can be replaced while jobs run: nothing has to be restarted on this side.
"""

from __future__ import annotations

import logging
import ssl
from dataclasses import dataclass
from pathlib import Path

from bridge.sidecar.signature import Signer, first_secret

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Files:
    """The paths of those that are files."""

    secret: Path | None = None
    ca: Path | None = None
    client_cert: Path | None = None
    client_key: Path | None = None


class Credentials:
    """The secret under which requests are signed, and the TLS context of connections that are opened."""

    def __init__(self, secret: str | None, files: Files, *, tls: bool) -> None:
        self._files = files
        self.signer = Signer.of(secret)
        self.tls = self._context() if tls else None
        """The credentials for the next connection. Replaced as a whole: ask for them each time."""
        self._seen = self._changed_at()

    def refresh(self) -> bool:
        """Look whether a file has changed; True if one has, and was read. An unreadable file stays out."""
        now = self._changed_at()
        if now == self._seen:
            return False
        try:
            self._read()
        except (
            OSError,
            ValueError,
        ) as error:  # ssl.SSLError is an OSError; a half-written file is read again
            logger.warning("the sidecar's secret or certificates changed and cannot be read yet: %s", error)
            return False
        self._seen = now
        logger.info("the sidecar's secret and certificates were read again")
        return True

    def _read(self) -> None:
        files = self._files
        # A new context: one that is loaded twice goes on to trust what the file has lost.
        tls = self._context() if self.tls else None
        if files.secret:
            self.signer.replace(first_secret(files.secret.read_text()))
        self.tls = tls

    def _context(self) -> ssl.SSLContext:
        files = self._files
        context = ssl.create_default_context(cafile=_text(files.ca))
        if files.client_cert:
            context.load_cert_chain(files.client_cert, files.client_key)
        return context

    def _changed_at(self) -> tuple[tuple[int, int] | None, ...]:
        files = self._files
        return tuple(_stamp(path) for path in (files.secret, files.ca, files.client_cert, files.client_key))


def _stamp(path: Path | None) -> tuple[int, int] | None:
    if path is None:
        return None
    try:
        found = path.stat()
    except OSError:
        return None  # it is just being replaced
    return found.st_mtime_ns, found.st_ino


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)
