"""Waits for whichever comes first: a socket, or a wake-up from another thread."""

from __future__ import annotations

import contextlib
import os
import select
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

Callback = Callable[[], object]


#: Who has worked for longer than its rest divided by this has none.
BUSY_TIMES = 2
#: ``SharedSockets.trust`` after a job that the deputy could not run.
DISTRUST = -2


class EventLoop:
    """One selector with a socket pair to wake it. Belongs to the thread that made it.

    ``wake`` and ``call_soon`` may be called by any thread (``wake`` in a signal handler as well), the rest
    by the owner only.
    """

    shared: SharedSockets | None = None
    """Sockets that another thread may wait for; see ``share``."""

    def __init__(self) -> None:
        self._owner = threading.get_ident()
        self._selector = selectors.DefaultSelector()
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        self._woken = False
        self._interrupted = False
        self.soon: deque[Callback] = deque()
        """The calls of the next wait. The owner itself may append to it, without a wake-up."""
        self._selector.register(self._reader, selectors.EVENT_READ, (self._drain, None))
        self._writing: set[Any] = set()
        self._awake_since = time.monotonic()
        self._bell = selectors.DefaultSelector()
        self._bell.register(self._reader, selectors.EVENT_READ)
        self._has_turn = False

    def share(self) -> SharedSockets | None:
        """Have sockets that another thread may wait for. None where the system has no epoll."""
        if self.shared is None and hasattr(select, "epoll"):
            self.shared = SharedSockets(self)
            self._has_turn = self.shared.turn.acquire()
        return self.shared

    def watch(self, sock: Any, readable: Callback, writable: Callback | None = None) -> None:
        """Call ``readable`` when the socket can be read, ``writable`` (if given) when it can be written."""
        interest = selectors.EVENT_READ | (selectors.EVENT_WRITE if writable else 0)
        self._writing.add(sock) if writable else self._writing.discard(sock)
        try:
            self._selector.modify(sock, interest, (readable, writable))
        except (KeyError, ValueError):
            self._selector.register(sock, interest, (readable, writable))

    def unwatch(self, sock: Any) -> None:
        """Stop watching; a socket that is already closed or unknown is fine."""
        self._writing.discard(sock)
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(sock)

    def wake(self) -> None:
        """End the current or the next wait. The owner needs none: its turn follows every wait."""
        if self._woken or threading.get_ident() == self._owner:
            return
        self._write()

    def interrupt(self) -> None:
        """End the wait and note an interrupt; also from the owner, whose signal handlers run inside it."""
        self._interrupted = True
        self._write()

    def _write(self) -> None:
        self._woken = True
        # The pipe may be full, or closed at shutdown: the wait ends all the same.
        with contextlib.suppress(OSError):
            self._writer.send(b"\0")

    def call_soon(self, callback: Callback) -> None:
        """Have the owner call this at its next wait."""
        self.soon.append(callback)
        self.wake()

    def run_soon(self) -> None:
        """Call now what waits for the next wait."""
        for _ in range(len(self.soon)):
            self.soon.popleft()()

    def wait(self, timeout_seconds: float) -> bool:
        """Wait and call what became ready. Returns whether ``interrupt`` was called since the last wait."""
        called = bool(self.soon)
        self.run_soon()
        if called or self.soon:
            timeout_seconds = 0.0
        events = self._select(max(0.0, timeout_seconds))
        self._awake_since = time.monotonic()
        for key, mask in events:
            readable, writable = key.data
            if mask & selectors.EVENT_WRITE and writable is not None:
                writable()
            if mask & selectors.EVENT_READ:
                readable()
        interrupted, self._interrupted = self._interrupted, False
        return interrupted

    def _select(self, timeout_seconds: float) -> list[tuple[selectors.SelectorKey, int]]:
        shared = self.shared
        if shared is None:
            return self._selector.select(timeout_seconds)
        shared.move()
        if self._has_turn:
            self._has_turn = False
            shared.turn.release()
        if shared.is_deputy_waiting is not shared.are_lent:
            timeout_seconds = 0.0  # a deputy that came before the release has woken nothing
        try:
            return self._selector.select(timeout_seconds)
        finally:
            # A signal handler may raise here: then the next wait does not release the turn.
            self._has_turn = shared.turn.acquire()

    def linger(self, seconds: float) -> None:
        """Wait for a wake-up alone: what comes over the sockets meanwhile stays in them.

        None where a peer has half of what it needs, nor for one that is busy: who has worked for half of that
        time may well be what the others wait for.
        """
        now = time.monotonic()
        if self.soon or self._writing or seconds < BUSY_TIMES * (now - self._awake_since):
            return
        if seconds > 0:
            self._bell.select(seconds)

    def close(self) -> None:
        """Close the selectors and its own sockets."""
        if self.shared is not None:
            self.shared.epoll.close()
        self._bell.close()
        self._selector.close()
        self._reader.close()
        self._writer.close()

    def _drain(self) -> None:
        try:
            while self._reader.recv(4096):
                pass
        except BlockingIOError:
            pass
        # Flag last: a wake-up that falls between is not written, but what it stands for is seen by the turn
        # that follows every wait. The other way round its byte would be eaten while the flag is set.
        self._woken = False


class SharedSockets:
    """Sockets for which one other thread, the deputy, may wait instead of the event loop's owner.

    The thread that reads a job runs it, and wakes no second thread before that. The owner has ``turn``
    whenever it does not wait. The deputy may use what belongs to the owner while it has ``turn``. The owner
    alone moves the sockets, before it waits: to a deputy that waits, or back.
    """

    def __init__(self, event_loop: EventLoop) -> None:
        self._event_loop = event_loop
        self.turn = threading.Lock()
        self.is_deputy_waiting = self.are_lent = False
        self.epoll = select.epoll()
        """Has the sockets while they are lent."""
        self.callbacks: dict[int, tuple[Any, Callback]] = {}
        """Socket and callback, by descriptor."""
        self.changes = 0
        """Changes of the sockets. A descriptor may be another socket's after one, or be read by the owner."""
        self.after: Callback = _nothing
        """The deputy calls this after it has read, in its turn."""
        self.trust = 1
        """Positive: the next job is likely one that the deputy can run."""
        self.wake = event_loop.wake

    def watch(self, sock: Any, readable: Callback) -> None:
        """As :meth:`EventLoop.watch`, by the thread that has the turn; as ``unwatch``."""
        self.unwatch(sock)
        self.callbacks[sock.fileno()] = (sock, readable)
        if self.are_lent:
            self.epoll.register(sock, select.EPOLLIN)
        else:
            self._event_loop.watch(sock, readable)

    def unwatch(self, sock: Any) -> None:
        """Stop watching; a socket that is already closed or unknown is fine."""
        for number in [number for number, (known, _) in self.callbacks.items() if known is sock]:
            del self.callbacks[number]
            with contextlib.suppress(OSError):
                self.epoll.unregister(number)
        self.changes += 1  # last: until here a deputy may have found it readable
        self._event_loop.unwatch(sock)

    def move(self) -> None:
        """Have the deputy watch the sockets if it waits, else the owner, who calls this."""
        # Read once: a deputy may come or go at any moment.
        if (is_deputy_waiting := self.is_deputy_waiting) is self.are_lent:
            return
        self.are_lent = is_deputy_waiting
        for number, (sock, readable) in self.callbacks.items():
            if self.are_lent:
                self._event_loop.unwatch(sock)
                self.epoll.register(number, select.EPOLLIN)
            else:
                self.epoll.unregister(number)
                self._event_loop.watch(sock, readable)
        self.changes += not self.are_lent  # last: until here a deputy may have found them readable


def _nothing() -> None:
    """Nothing is to be done."""


class _PerThread(threading.local):
    """An event loop for each thread (each greenlet under gevent, whose patched locals are per greenlet)."""

    def __init__(self) -> None:
        self.event_loop = EventLoop()


_per_thread = _PerThread()


def _forget() -> None:
    """In a forked child: its parent's selector must not be touched."""
    global _per_thread
    _per_thread = _PerThread()


os.register_at_fork(after_in_child=_forget)


def current() -> EventLoop:
    """The calling thread's event loop, shared by all its connections and by a pool that runs on it."""
    return _per_thread.event_loop
