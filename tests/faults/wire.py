"""The network between a worker and its peers: one that can be cut, stalled, slowed, or lose answers."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

#: A port of loopback, or the path of a Unix socket.
End = int | Path


class Wire:
    """Listens at one end and forwards to the other, both ways."""

    def __init__(self, listen: End, target: End) -> None:
        self._target = target
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._lock = threading.Lock()
        self._flowing = threading.Event()
        self._flowing.set()
        self._down = False
        self._delay_seconds = 0.0
        self._lose_every = 0
        self._answers = 0
        self.lost = 0
        self._listener = _listening(listen)
        threading.Thread(target=self._accept, daemon=True).start()

    # -- what can happen to it

    def cut(self) -> None:
        """Reset every connection; new ones get through."""
        with self._lock:
            pairs, self._pairs = self._pairs, set()
        for pair in pairs:
            for end in pair:
                _reset(end)

    @contextlib.contextmanager
    def down(self) -> Iterator[None]:
        """Nobody gets through meanwhile."""
        self._down = True
        self.cut()
        try:
            yield
        finally:
            self._down = False

    @contextlib.contextmanager
    def stalled(self) -> Iterator[None]:
        """Connections stay open and nothing comes through; afterwards they are cut."""
        self._flowing.clear()
        try:
            yield
        finally:
            self.cut()
            self._flowing.set()

    @contextlib.contextmanager
    def slow(self, delay_seconds: float) -> Iterator[None]:
        """Each chunk takes so long, in both directions."""
        self._delay_seconds = delay_seconds
        try:
            yield
        finally:
            self._delay_seconds = 0.0

    @contextlib.contextmanager
    def losing(self, every: int) -> Iterator[None]:
        """Each so-manieth answer is lost, and its connection with it: the request was carried out."""
        self._lose_every = every
        try:
            yield
        finally:
            self._lose_every = 0

    def close(self) -> None:
        self._listener.close()
        self.cut()

    # -- forwarding

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._join, args=(client,), daemon=True).start()

    def _join(self, client: socket.socket) -> None:
        try:
            if self._down:
                raise ConnectionRefusedError
            server = _connected(self._target)
        except OSError:
            _reset(client)
            return
        pair = (client, server)
        with self._lock:
            self._pairs.add(pair)
        threading.Thread(target=self._copy, args=(server, client, pair, True), daemon=True).start()
        self._copy(client, server, pair, False)

    def _copy(
        self,
        source: socket.socket,
        sink: socket.socket,
        pair: tuple[socket.socket, socket.socket],
        is_answer: bool,
    ) -> None:
        with contextlib.suppress(OSError):
            while chunk := source.recv(1 << 18):
                self._flowing.wait()
                if self._delay_seconds:
                    time.sleep(self._delay_seconds)
                if is_answer and self._loses_this():
                    break
                sink.sendall(chunk)
        with self._lock:
            self._pairs.discard(pair)
        for end in pair:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _loses_this(self) -> bool:
        self._answers += 1
        lost = bool(self._lose_every) and self._answers % self._lose_every == 0
        self.lost += lost
        return lost


def _listening(end: End) -> socket.socket:
    if isinstance(end, int):
        return socket.create_server(("127.0.0.1", end), backlog=100)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(end))
    listener.listen(100)
    return listener


def _connected(end: End) -> socket.socket:
    if isinstance(end, int):
        made = socket.create_connection(("127.0.0.1", end), 2)
        made.settimeout(None)
        return made
    made = socket.socket(socket.AF_UNIX)
    made.settimeout(2)
    made.connect(str(end))
    made.settimeout(None)
    return made


def _reset(end: socket.socket) -> None:
    """End it at once, with RST where it is TCP."""
    with contextlib.suppress(OSError):
        if end.family == socket.AF_INET:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        end.shutdown(socket.SHUT_RDWR)
