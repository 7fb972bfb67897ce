"""Where Redis is: ``redis://``, ``sentinel://``, both with an ``s`` for TLS, or ``unix://``.

The password is out of sight.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import SplitResult, unquote

from bridge.redis.address import RedisAddress

DEFAULT_PORT = 6379
DEFAULT_SENTINEL_PORT = 26379

_SCHEMES = "the URL starts with redis://, sentinel://, rediss:// or sentinels:// (TLS), or unix://"
_URL = re.compile(r"([A-Za-z]+)://([^/?#]*)([^?#]*)(.*)", re.DOTALL)
_CREDENTIALS = re.compile(r"//.*@", re.DOTALL)


def mask(text: str) -> str:
    """Any text that may be a URL, without its user and password; works on malformed URLs too."""
    return _CREDENTIALS.sub("//***@", text)


@dataclass(frozen=True, slots=True)
class Address:
    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class RedisUrl:
    """A parsed URL. ``str()`` and ``repr()`` never show the password."""

    scheme: str
    addresses: tuple[Address, ...]
    """One server; or the sentinels, in the order in which they are asked."""
    db: int = 0
    master: str | None = None
    """Name of the master that the sentinels watch."""
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    path: str | None = None
    """The Unix socket of ``unix://``."""

    @classmethod
    def parse(cls, text: str) -> RedisUrl:
        """Raises ValueError, with a sentence that does not repeat the URL."""
        parts = _split(text)
        if parts.scheme in ("redis", "rediss"):
            return _server(parts)
        if parts.scheme in ("sentinel", "sentinels"):
            return _sentinel(parts)
        if parts.scheme == "unix":
            return _socket(parts)
        raise ValueError(_SCHEMES)

    @property
    def is_tls(self) -> bool:
        return self.scheme in ("rediss", "sentinels")

    @property
    def is_sentinel(self) -> bool:
        return self.scheme in ("sentinel", "sentinels")

    def address(self, ca: Path | None, cert: Path | None, key: Path | None) -> RedisAddress:
        """The arguments of a client; the files are for TLS."""
        first = self.addresses[0] if self.addresses else Address("", 0)
        sentinels = [(address.host, address.port) for address in self.addresses] if self.is_sentinel else []
        return RedisAddress(
            host=first.host,
            port=first.port,
            database=self.db,
            username=self.username,
            password=self.password,
            tls=self.is_tls,
            ca=_text(ca),
            cert=_text(cert),
            key=_text(key),
            sentinels=sentinels,
            master=self.master or "",
            path=self.path,
        )

    def __str__(self) -> str:
        credentials = "***@" if self.username or self.password else ""
        if self.path:
            return f"unix://{credentials}{self.path}{f'?db={self.db}' if self.db else ''}"
        hosts = ",".join(str(address) for address in self.addresses)
        master = f"/{self.master}" if self.master else ""
        return f"{self.scheme}://{credentials}{hosts}{master}/{self.db}"


def _split(text: str) -> SplitResult:
    """Not by urlsplit: releases of Python differ over brackets in one of several hosts."""
    match = _URL.fullmatch(text.strip())
    if match is None:
        raise ValueError(_SCHEMES)
    scheme, netloc, path, options = match.groups()
    if options and scheme.lower() != "unix":
        raise ValueError(
            "options in the URL are not understood (a # or ? in a password is written %23 or %3F)"
        )
    if "@" in path:
        raise ValueError("a / in a user or password is written %2F")
    if set("[]") & set(netloc.rpartition("@")[0]):
        raise ValueError("[ and ] in a user or password are written %5B and %5D")
    return SplitResult(scheme.lower(), netloc, path, options, "")


def _socket(parts: SplitResult) -> RedisUrl:
    option = re.fullmatch(r"(?:\?db=([^&#]*))?", parts.query)
    if option is None:
        raise ValueError("the one option of a unix:// URL is its database: ?db=0")
    if _hosts(parts) or not parts.path.strip("/"):
        raise ValueError("a unix:// URL names the socket by its whole path: unix:///run/redis.sock")
    username, password = _credentials(parts)
    return RedisUrl("unix", (), _db(option[1] or ""), None, username, password, unquote(parts.path))


def _server(parts: SplitResult) -> RedisUrl:
    address = _address(_hosts(parts), DEFAULT_PORT)
    username, password = _credentials(parts)
    return RedisUrl(parts.scheme, (address,), _db(parts.path.strip("/")), None, username, password)


def _sentinel(parts: SplitResult) -> RedisUrl:
    master, _, db = parts.path.strip("/").partition("/")
    if not master:
        raise ValueError("a sentinel URL names the master behind the hosts")
    addresses = tuple(_address(host, DEFAULT_SENTINEL_PORT) for host in _hosts(parts).split(","))
    username, password = _credentials(parts)
    return RedisUrl(parts.scheme, addresses, _db(db), unquote(master), username, password)


def _hosts(parts: SplitResult) -> str:
    return parts.netloc.rpartition("@")[2]


def _credentials(parts: SplitResult) -> tuple[str | None, str | None]:
    username, _, password = parts.netloc.rpartition("@")[0].partition(":")
    return unquote(username) or None, unquote(password) or None


def _address(text: str, default_port: int) -> Address:
    match = re.fullmatch(r"(\[[^\]]+\]|[^:\[\]]*)(?::(\d{1,5}))?", text.strip())
    if match is None:
        raise ValueError("host and port are written host:port")
    port = int(match[2] or default_port)
    if not 0 < port < 65_536:
        raise ValueError("a port is a number from 1 to 65535")
    return Address(match[1].strip("[]") or "127.0.0.1", port)


def _db(text: str) -> int:
    if not text:
        return 0
    if not text.isascii() or not text.isdigit():
        raise ValueError("the database at the end of the URL is a number")
    return int(text)


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)
