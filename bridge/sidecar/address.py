"""The address of a sidecar, and the way to open a socket to it."""

from __future__ import annotations

import re
import socket
import ssl
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from urllib.parse import urlsplit

from bridge import errors

DEFAULT_PORT = 9292
_SOCKET_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True, slots=True)
class Address:
    """``http://host:port``, ``https://host:port`` or ``unix:///path``."""

    scheme: str
    host: str = ""
    port: int = 0
    path: str = ""

    @classmethod
    def parse(cls, url: str) -> Address:
        """Read a URL of the settings or of ``/health`` (there ``tcp`` and ``ssl`` stand for http and https).

        Raises:
            ConfigurationError: no such URL.
        """
        try:
            return cls._parse(url)
        except ValueError as error:
            raise errors.ConfigurationError(
                f"the sidecar's address {url!r} is none ({error}): "
                "write http://host:9292, https://host:9292 or unix:///path"
            ) from error

    @classmethod
    def _parse(cls, url: str) -> Address:
        parts = urlsplit(url)
        scheme = {"tcp": "http", "ssl": "https"}.get(parts.scheme, parts.scheme)
        if scheme == "unix" and parts.path:
            return cls("unix", path=parts.path)
        if scheme in ("http", "https") and parts.hostname:
            return cls(scheme, parts.hostname, parts.port or DEFAULT_PORT)
        raise errors.ConfigurationError(
            f"the sidecar's address {url!r} is none: write http://host:9292, https://host:9292 or unix:///path"
        )

    def peer(self, url: str) -> Address:
        """The address of one of its Puma workers. Only the name of a socket is theirs.

        A sidecar must not choose where a worker connects. On TCP and TLS the configured address reaches each
        Puma worker, whatever port the sidecar itself listens on. Sockets are in the configured folder, which
        containers may mount at different places.

        Raises:
            ConfigurationError: it names another scheme, or no plain name of a socket.
        """
        other = Address.parse(url)
        if other.scheme != self.scheme:
            raise errors.ConfigurationError(f"a Puma worker of {self} may not be at {other.scheme}")
        if self.scheme != "unix":
            return self
        name = PurePosixPath(other.path).name
        if not _SOCKET_NAME.fullmatch(name):
            raise errors.ConfigurationError(f"a Puma worker of {self} may not have that socket")
        return replace(self, path=str(PurePosixPath(self.path).with_name(name)))

    @property
    def is_tls(self) -> bool:
        """Whether it is spoken to over TLS, however the scheme was written."""
        return self.scheme == "https"

    @property
    def authority(self) -> str:
        """Value of the Host header."""
        if self.scheme == "unix":
            return "localhost"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    def connect(self, timeout_seconds: float, tls: ssl.SSLContext | None) -> socket.socket:
        """Open a socket. Raises OSError."""
        if self.scheme == "unix":
            return self._connect_unix(timeout_seconds)
        sock = socket.create_connection((self.host, self.port), timeout_seconds)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.is_tls:
            assert tls is not None
            sock = tls.wrap_socket(sock, server_hostname=self.host)
        return sock

    def _connect_unix(self, timeout_seconds: float) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.settimeout(timeout_seconds)
            sock.connect(self.path)
        except OSError:
            sock.close()
            raise
        return sock

    def __str__(self) -> str:
        return f"unix://{self.path}" if self.scheme == "unix" else f"{self.scheme}://{self.authority}"
