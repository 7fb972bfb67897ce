"""A kombu connection that speaks our transport while its URL stays Redis'.

kombu finds a transport by the URL's scheme in one table for the whole process. Changing that table would hand
our transport to every other Celery app in it, and Flower finds its broker page by the scheme; so the class is
bound here instead, to this application's connections alone.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote

import kombu
from kombu.connection import ConnectionPool, PooledConnection

from bridge.broker.context import OPTION
from bridge.broker.transport import Transport

#: The rest of ``redis+socket://user:password@/path`` for kombu, which takes the first word off.
_SOCKET = "socket://"
_PASSWORD = re.compile(r"(?<=//)(?P<user>[^/:@]*):[^/@]*@")


class Connection(kombu.Connection):
    """Reports the scheme it was given and always uses :class:`bridge.broker.transport.Transport`."""

    carries_jobs = True
    """A push may name this connection: it leads to Sidekiq's Redis."""

    def _init_params(self, hostname: Any, *arguments: Any, **options: Any) -> None:
        """kombu's, which takes rediss:// without options for unverified TLS, and warns of it.

        The settings say how TLS is checked, and it always is (kombu/connection.py, ``_init_params``).
        """
        if options.get("transport") == "rediss" and not options.get("ssl"):
            options["ssl"] = True
        super()._init_params(hostname, *arguments, **options)

    def get_transport_cls(self) -> type[Transport]:
        """The transport, whatever the URL's scheme."""
        return Transport

    def as_uri(self, include_password: bool = False, mask: str = "**", **_: Any) -> str:
        """The URL for logs, Flower and ``celery inspect``.

        kombu's shows a masked password if there is none, and an IPv6 address without its brackets.
        """
        if (socket := str(self.hostname or "")).startswith(_SOCKET):
            masked = _PASSWORD.sub(lambda found: f"{found['user']}:{mask}@", socket, count=1)
            return f"redis+{socket if include_password else masked}"
        user, secret = quote(self.userid or "", safe=""), quote(self.password or "", safe="")
        shown = secret if include_password else mask
        credentials = f"{user}:{shown}@" if secret else f"{user}@" if user else ""
        host = f"[{self.hostname}]" if ":" in (self.hostname or "") else self.hostname
        return f"{self.transport_cls}://{credentials}{host}:{self.port}/{self.virtual_host}"

    def info(self) -> dict[str, Any]:
        """Connection parameters for ``celery inspect stats``, without what JSON cannot hold."""
        found: dict[str, Any] = super().info()
        found["transport_options"] = {
            name: value for name, value in found["transport_options"].items() if name != OPTION
        }
        return found

    def Pool(self, limit: int | None = None, **kwargs: object) -> Pool:  # noqa: N802 - kombu's name
        """A pool of connections of this kind."""
        return Pool(self, limit, **kwargs)


class Pooled(PooledConnection):
    """A connection in a pool. kombu's own class would look the transport up by the URL's scheme."""

    get_transport_cls = Connection.get_transport_cls
    as_uri = Connection.as_uri
    carries_jobs = True


class Pool(ConnectionPool):
    """A pool whose connections use our transport."""

    def new(self) -> Pooled:
        """One more connection."""
        return Pooled(self, **dict(self.connection._info(resolve=False)))
