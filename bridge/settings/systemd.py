"""The variables that a service manager (systemd) sets for the process that it starts."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import MutableMapping
from dataclasses import dataclass

_NAMES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")


@dataclass(frozen=True, slots=True)
class ServiceManager:
    """Where to report to. Follows sd_notify(3) and sd_watchdog_enabled(3)."""

    socket: str
    """Path of a datagram socket; an abstract one begins with a NUL."""
    watchdog_seconds: float | None
    """How long it waits for a sign of life before it kills the process; None where it does not watch."""

    @classmethod
    def take(cls, environ: MutableMapping[str, str], pid: int) -> ServiceManager | None:
        """Read the variables, and remove them: no child may report in our name. None without a manager."""
        address, usec, watched = (environ.pop(name, "") for name in _NAMES)
        if not address.startswith(("/", "@")):
            return None
        watchdog = int(usec) / 1e6 if usec.isdigit() and watched in ("", str(pid)) else None
        return cls(f"\0{address[1:]}" if address[0] == "@" else address, watchdog or None)

    def tell(self, lines: str) -> None:
        """Send one datagram. The process goes on if the manager does not listen any more."""
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as connection,
        ):
            # Never wait: the queue of an unread socket fills up.
            connection.setblocking(False)
            connection.sendto(lines.encode(), self.socket)
