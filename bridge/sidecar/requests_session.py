"""The one module that imports ``requests``: :mod:`bridge.sidecar.control_client` does so at first use."""

from __future__ import annotations

from collections.abc import Callable
from http.cookiejar import DefaultCookiePolicy
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection
from urllib3.connectionpool import HTTPConnectionPool
from urllib3.exceptions import HTTPError

from bridge.sidecar.bounded_socket import BoundedSocket
from bridge.sidecar.messages import READ_SIZE, BadReply, Body, Reply

#: The library wants a URL. The adapter connects to the address and ignores this host.
BASE = "http://sidecar"


class RequestsSession:
    """A ``requests.Session`` over sockets that the caller opens, TLS and Unix sockets among them.

    It reads nothing from the environment (proxies, ``.netrc``, certificates), follows no redirect and keeps
    no cookie. It decompresses no body: the reply's signature covers the bytes on the wire.
    """

    def __init__(self, open_socket: Callable[[], BoundedSocket]) -> None:
        self._session = session = _Session()
        session.trust_env = False
        session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        session.headers.clear()
        session.headers["User-Agent"] = "sidekiq-bridge"
        session.headers["Accept-Encoding"] = "identity"
        session.adapters.clear()
        session.mount(BASE, _Adapter(open_socket))

    def exchange(self, method: str, path: str, headers: dict[str, str], body: bytes, largest: int) -> Reply:
        """Send a request and read its reply, whose body has ``largest`` bytes at most.

        Raises:
            OSError: the connection broke, or the reply was late (TimeoutError).
            BadReply: what came is not a reply.
        """
        if body:
            headers = {**headers, "Content-Type": "application/json"}
        try:
            response = self._session.request(
                method, BASE + path, headers=headers, data=body or None, allow_redirects=False, stream=True
            )
            return _reply(response.raw, largest)
        except (requests.RequestException, HTTPError, ValueError) as error:
            raise _cause(error) from error


class _Session(requests.Session):
    """Sees no redirects: where it may not follow one, it reads and decompresses the body all the same."""

    def get_redirect_target(self, resp: requests.Response) -> None:
        return None


class _Adapter(HTTPAdapter):
    """Leads each request over the connection of this conversation."""

    def __init__(self, open_socket: Callable[[], BoundedSocket]) -> None:
        super().__init__(pool_connections=1, pool_maxsize=1)
        self._pool = HTTPConnectionPool("sidecar", maxsize=1, open_socket=open_socket)
        self._pool.ConnectionCls = _Connection

    def get_connection_with_tls_context(self, *_: Any, **__: Any) -> HTTPConnectionPool:
        return self._pool


class _Connection(HTTPConnection):
    """Connects where the caller says."""

    def __init__(self, *arguments: Any, open_socket: Callable[[], BoundedSocket], **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._open_socket = open_socket

    def connect(self) -> None:
        self.sock: Any = self._open_socket()


def _reply(response: Any, largest: int) -> Reply:
    """Raises BadReply where the reply does not say itself how long it is: it may have been cut."""
    if response.status < 200:
        raise BadReply(f"{response.status} is not the final reply")
    if response.length_remaining is None and not response.chunked:
        raise BadReply("the reply has no length")
    body = Body(largest)
    for chunk in response.stream(READ_SIZE, decode_content=False):
        body.add(chunk)
    headers = {
        name.lower().encode("latin-1"): value.encode("latin-1") for name, value in response.headers.items()
    }
    return Reply(response.status, headers, body.joined)


def _cause(error: Exception) -> Exception:
    """The error of the socket below the library's own, which name hosts that were never asked."""
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, OSError) and not isinstance(found, requests.RequestException):
            return found
        found = found.__cause__ or found.__context__
    return BadReply(f"not HTTP: {error}")
