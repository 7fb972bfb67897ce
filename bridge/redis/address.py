"""Where Redis is and how it is spoken to. Imports nothing large: the keeper of the lease is small."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final


class RedisAddress:
    """``sentinels`` and ``master``, or ``path`` (a Unix socket), replace ``host`` and ``port``.

    Never changed once it is made. ``sentinel_username`` and ``sentinel_password`` are for the sentinels only.

    Neither a dataclass, which the keeper would have to load, nor a tuple, which error trackers take apart:
    they would show the password.
    """

    __slots__ = (
        "ca",
        "cert",
        "connect_timeout_seconds",
        "database",
        "host",
        "key",
        "master",
        "password",
        "path",
        "port",
        "sentinel_password",
        "sentinel_username",
        "sentinels",
        "timeout_seconds",
        "tls",
        "username",
    )  # fmt: skip

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 6379,
        database: int = 0,
        username: str | None = None,
        password: str | None = None,
        tls: bool = False,
        ca: str | None = None,
        cert: str | None = None,
        key: str | None = None,
        sentinels: Sequence[tuple[str, int]] = (),
        master: str = "",
        connect_timeout_seconds: float = 3.0,
        timeout_seconds: float = 5.0,
        path: str | None = None,
        sentinel_username: str | None = None,
        sentinel_password: str | None = None,
    ) -> None:
        self.host: Final = host
        self.port: Final = port
        self.database: Final = database
        self.username: Final = username
        self.password: Final = password
        self.tls: Final = tls
        self.ca: Final = ca
        self.cert: Final = cert
        self.key: Final = key
        self.sentinels: Final = tuple((name, port) for name, port in sentinels)
        self.master: Final = master
        self.connect_timeout_seconds: Final = connect_timeout_seconds
        self.timeout_seconds: Final = timeout_seconds
        self.path: Final = path
        self.sentinel_username: Final = sentinel_username
        self.sentinel_password: Final = sentinel_password

    @property
    def tls_options(self) -> dict[str, Any]:
        """The options of a client of redis-py for TLS, which always verifies the server."""
        if not self.tls:
            return {}
        return {
            "ssl": True,
            "ssl_cert_reqs": "required",
            "ssl_check_hostname": True,
            "ssl_ca_certs": self.ca,
            "ssl_certfile": self.cert,
            "ssl_keyfile": self.key,
        }

    def as_dict(self) -> dict[str, Any]:
        """What ``__init__`` takes, the password among it."""
        return {name: getattr(self, name) for name in self.__slots__}

    def but(self, **changes: Any) -> RedisAddress:
        """The same address but for these."""
        return RedisAddress(**{**self.as_dict(), **changes})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RedisAddress) and self.as_dict() == other.as_dict()

    def __hash__(self) -> int:
        return hash(tuple(self.as_dict().values()))

    def __repr__(self) -> str:
        where = self.path or f"{self.host}:{self.port}"
        if self.sentinels:
            where = f"{self.master} behind {list(self.sentinels)}"
        return f"<Redis {where}/{self.database}>"
