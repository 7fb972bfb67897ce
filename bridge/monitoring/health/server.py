"""A small HTTP server for probes and scrapes, in a thread beside the worker's own."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

logger = logging.getLogger(__name__)

#: Ports that are tried after the wished one: as many workers as a team runs on one machine.
PORTS_TRIED = 100
#: A client has this long to send its whole request, however it sends it, and then to take the answer.
REQUEST_SECONDS = 2.0
ANSWER_SECONDS = 5.0
#: Clients at once. One more, and the oldest is cut off: a probe takes milliseconds.
MOST_CLIENTS = 32
ACCEPT_PAUSE_SECONDS = 0.1
#: Between two attempts to get the wished port.
RETURN_SECONDS = 1.0
AT_HOME_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer to a GET."""

    body: bytes
    content_type: str = "application/json"
    status: int = 200

    @classmethod
    def of(cls, well: bool, fields: Mapping[str, Any]) -> Reply:
        """200 where all is well, else 503."""
        return cls(json.dumps(fields).encode() + b"\n", status=200 if well else 503)


NOT_ACCEPTABLE = Reply(
    b'{"error": "the Accept header cannot be read: send none, or text/plain"}\n', status=406
)

Routes = Mapping[str, Callable[[str], Reply]]
"""Path to what answers it, given the Accept header."""


class Server:
    """Serves ``routes``. ``start`` never raises: without its probes a worker still works."""

    def __init__(self, routes: Routes) -> None:
        self._routes = routes
        self._http: _HttpServer | None = None
        self._clients = threading.BoundedSemaphore(MOST_CLIENTS)
        self._since: dict[socket.socket, float] = {}

    @property
    def port(self) -> int | None:
        """The address, once it listens."""
        return self._http.server_port if self._http else None

    def start(self, host: str, port: int) -> None:
        """Listen on the port, or on the next one that is free."""
        self._http = self._bind(host, port)
        if self._http is None:
            return
        os.register_at_fork(after_in_child=self._forget)
        self._listen(host, self._http)

    def _listen(self, host: str, http: _HttpServer) -> None:
        where = f"[{host}]:{http.server_port}" if ":" in host else f"{host}:{http.server_port}"
        logger.info("serving /metrics and /health on http://%s", where)
        threading.Thread(target=self._serve, args=(http,), name="bridge-http", daemon=True).start()

    def come_back(self, host: str, port: int) -> float:
        """Move to the port once it is free. Returns the seconds to the next attempt."""
        http = self._http
        if http is None or port in (0, http.server_port):
            return AT_HOME_SECONDS
        with contextlib.suppress(OSError):  # it is still taken
            self._http = _HttpServer(host, port, self._routes)
            self._listen(host, self._http)
            _close(http)
        return RETURN_SECONDS

    def stop(self) -> None:
        """Listen no more."""
        http, self._http = self._http, None
        if http is not None:
            _close(http)

    def _bind(self, host: str, port: int) -> _HttpServer | None:
        for candidate in range(port, min(port + PORTS_TRIED, 65_536)):
            try:
                http = _HttpServer(host, candidate, self._routes)
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    continue
                logger.warning("no probes and no metrics: cannot listen on %s:%d: %s", host, candidate, error)
                return None
            if candidate != port:
                logger.warning("port %d is taken; using %d for /metrics and /health", port, candidate)
            return http
        logger.warning("no probes and no metrics: %d ports from %d on are taken", PORTS_TRIED, port)
        return None

    def _serve(self, http: _HttpServer) -> None:
        """Not ``serve_forever``: its selector is chosen at import, which may come before gevent patches."""
        while self._http is http:
            try:
                request, client = http.get_request()
            except OSError:
                time.sleep(
                    ACCEPT_PAUSE_SECONDS
                )  # the end, or no file descriptors left: not to be asked in a spin
                continue
            if not self._clients.acquire(blocking=False):
                self._cut_the_oldest()
                if not self._clients.acquire(timeout=ACCEPT_PAUSE_SECONDS):
                    http.shutdown_request(request)
                    continue
            self._since[request] = time.monotonic()
            threading.Thread(target=self._answer, args=(http, request, client), daemon=True).start()

    def _cut_the_oldest(self) -> None:
        with contextlib.suppress(OSError, StopIteration, RuntimeError):  # it has just gone
            next(iter(self._since)).shutdown(socket.SHUT_RDWR)

    def _answer(self, http: _HttpServer, request: socket.socket, client: Any) -> None:
        try:
            http.process_request_thread(request, client)
        finally:
            self._since.pop(request, None)
            self._clients.release()

    def _forget(self) -> None:
        """In a pool process: a copy of the socket would keep the port when the worker has gone."""
        http, self._http = self._http, None
        if http is not None:
            http.socket.close()


def _close(http: _HttpServer) -> None:
    with contextlib.suppress(OSError):  # it had ended by itself
        http.socket.shutdown(socket.SHUT_RDWR)  # ends the accept; a close alone does not
    http.server_close()


class _HttpServer(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, host: str, port: int, routes: Routes) -> None:
        self.routes = routes
        if ":" in host:
            self.address_family = socket.AF_INET6
        super().__init__((host, port), _Handler)

    def server_bind(self) -> None:
        """Without the base's look-up of the host's name, which may ask a name server for seconds."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore a client that hung up: the worker is not at fault."""
        logger.debug("a request from %s was cut", client_address, exc_info=True)


class _UntilDeadline(io.RawIOBase):
    """Reads a socket up to a moment: with a time-out for each byte a client could drip without end."""

    def __init__(self, sock: socket.socket, seconds: float) -> None:
        self._socket = sock
        self._deadline = time.monotonic() + seconds

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the request took too long")
        self._socket.settimeout(left)
        return self._socket.recv_into(buffer)


class _Handler(BaseHTTPRequestHandler):
    server: _HttpServer
    server_version = "sidekiq-bridge"
    sys_version = ""

    def setup(self) -> None:
        super().setup()
        self.rfile.close()
        self.rfile = io.BufferedReader(_UntilDeadline(self.connection, REQUEST_SECONDS))

    def do_GET(self) -> None:
        route = self.server.routes.get(self.path.partition("?")[0])
        self._send(self._reply(route) if route else Reply(b'{"error": "not found"}\n', status=404))

    do_HEAD = do_GET  # noqa: N815

    def _reply(self, route: Callable[[str], Reply]) -> Reply:
        accept = self.headers.get("Accept", "")
        if not accept.isprintable():
            return NOT_ACCEPTABLE
        try:
            return route(accept)
        except Exception:
            # A fault in one page must not look like a dead worker without a trace.
            logger.exception("could not answer %s", self.path.partition("?")[0])
            return Reply(b'{"error": "internal error, see the log of the worker"}\n', status=500)

    def _send(self, reply: Reply) -> None:
        self.connection.settimeout(ANSWER_SECONDS)
        self.send_response(reply.status)
        self.send_header("Content-Type", reply.content_type)
        self.send_header("Content-Length", str(len(reply.body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(reply.body)

    def log_message(self, format: str, *args: Any) -> None:
        """Probes come every few seconds: no line for each."""
