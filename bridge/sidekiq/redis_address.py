"""Where Redis is and how it is spoken to. Imports nothing: the keeper of the lease is a small process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class RedisAddress(NamedTuple):
    """``sentinels`` and ``master`` replace ``host`` and ``port``."""

    host: str = "127.0.0.1"
    port: int = 6379
    database: int = 0
    username: str | None = None
    password: str | None = None
    tls: bool = False
    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    sentinels: Sequence[tuple[str, int]] = ()
    master: str = ""
    connect_timeout_seconds: float = 3.0
    timeout_seconds: float = 5.0

    def __repr__(self) -> str:
        where = (
            f"{self.master} behind {list(self.sentinels)}" if self.sentinels else f"{self.host}:{self.port}"
        )
        return f"<Redis {where}/{self.database}>"
