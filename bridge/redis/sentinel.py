"""Follows the master that Sentinel names: a planned failover leaves the old one in service for some 10 s.

Nothing is cut then. Kept connections would go on writing to a server that is about to forget all of it: once
it is told to be a replica, it throws away what the new master does not have.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
import weakref
from typing import Any

import redis
from redis.sentinel import Sentinel, SentinelManagedConnection, SentinelManagedSSLConnection

from bridge.redis.address import RedisAddress

logger = logging.getLogger(__name__)

LOOK_SECONDS = 1.0


class _Following:
    """A connection to the master that its :class:`MasterFollower` can cut."""

    host: str
    port: int
    _sock: Any

    def __init__(self, follower: MasterFollower, **options: Any) -> None:
        super().__init__(**options)
        self._ended: Any = None
        follower.knows(self)

    def leads_elsewhere(self, address: tuple[str, int]) -> bool:
        """Whether it is open, and not to this address."""
        sock: Any = self._sock
        # A connection that was cut and not used since still looks open.
        return sock not in (None, self._ended) and (self.host, self.port) != address

    def cut(self) -> None:
        """End it from another thread: its user finds it closed by the server."""
        sock: Any = self._sock
        self._ended = sock
        # Not closed: another thread may be reading, and its number must not be another socket's meanwhile.
        with contextlib.suppress(OSError):
            if sock is not None:
                # That of a TLS socket goes on in clear for a moment.
                socket.socket.shutdown(sock, socket.SHUT_RDWR)


class FollowingConnection(_Following, SentinelManagedConnection):
    """In clear."""


class FollowingTlsConnection(_Following, SentinelManagedSSLConnection):
    """Over TLS: the certificate is that of the server which the sentinels name."""


class MasterFollower:
    """Knows all connections of this process to one master, and cuts those that lead to another server.

    The user of a cut connection sees an outage of a moment; a new connection asks the sentinels.
    """

    def __init__(self, address: RedisAddress) -> None:
        self._master = address.master
        # Their own user, not the master's.
        options = {
            "socket_timeout": address.connect_timeout_seconds,
            "username": address.sentinel_username,
            "password": address.sentinel_password,
            **address.tls_options,
        }
        self._tls = address.tls_options
        # The same sentinels connect and look: two of different opinion would cut again and again.
        self._sentinel = Sentinel(list(address.sentinels), sentinel_kwargs=options)
        self._connections: weakref.WeakSet[_Following] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._looked_at = float("-inf")

    def knows(self, link: _Following) -> None:
        """Remember a connection. Safe from any thread."""
        with self._lock:
            self._connections.add(link)

    def client(self, **options: Any) -> redis.Redis:
        """A client of the master, with a pool of its own."""
        made: redis.Redis = self._sentinel.master_for(
            self._master,
            connection_class=FollowingTlsConnection if self._tls else FollowingConnection,
            follower=self,
            **options,
            **self._tls,
        )
        return made

    def look_if_due(self) -> None:
        """Look before a push, at most once a second, in a process without a thread that looks."""
        if time.monotonic() - self._looked_at >= LOOK_SECONDS:
            self.round()

    def round(self) -> float:
        """Look once who is the master. Returns seconds until the next look; never raises for an outage."""
        self._looked_at = time.monotonic()
        try:
            address = self._sentinel.discover_master(self._master)
        except (redis.RedisError, OSError) as error:
            logger.debug(
                "no sentinel names a master, so what is connected stays so: %s", type(error).__name__
            )
            return LOOK_SECONDS
        with self._lock:
            known = list(self._connections)
        if strays := [link for link in known if link.leads_elsewhere(address)]:
            logger.warning("the master is %s:%d now: leaving the one before", *address)
        for stray in strays:
            stray.cut()
        return LOOK_SECONDS
