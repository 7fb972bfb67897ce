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
from collections.abc import Callable, Sized
from typing import Any

Callback = Callable[[], object]

#: Who has worked for longer than its rest divided by this has none.
BUSY_TIMES = 2
#: ``SharedSockets.trust`` after a job that the deputy could not run.
DISTRUST = -2


class EventLoop:
    """One selector with a socket pair to wake it. Belongs to the thread that made it, its owner.

    Any thread may call ``wake`` and ``call_soon`` (``wake`` in a signal handler as well).
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
        self._numbers: dict[Any, int] = {}
        """Sockets, and a descriptor of ours for each: epoll keeps one that is closed if a child has it."""
        self._writing: set[Any] = set()
        self._awake_since = time.monotonic()
        self._bell = selectors.DefaultSelector()
        self._bell.register(self._reader, selectors.EVENT_READ)
        self._has_turn = False

    def share(self) -> SharedSockets | None:
        """Have sockets that another thread may wait for. None where the system has no epoll."""
        if self.shared is None and isinstance(self._selector, selectors.EpollSelector):
            self.shared = SharedSockets(self, self._selector)
            self._has_turn = self.shared.turn.acquire()
        return self.shared

    def watch(self, sock: Any, readable: Callback, writable: Callback | None = None) -> None:
        """Call ``readable`` when the socket can be read, ``writable`` (if given) when it can be written."""
        interest = selectors.EVENT_READ | (selectors.EVENT_WRITE if writable else 0)
        self._writing.add(sock) if writable else self._writing.discard(sock)
        if sock in self._numbers:
            self._selector.modify(self._numbers[sock], interest, (readable, writable))
            return
        self._numbers[sock] = os.dup(sock.fileno())
        self._selector.register(self._numbers[sock], interest, (readable, writable))

    def unwatch(self, sock: Any) -> None:
        """Stop watching; a socket that is already closed or unknown is fine."""
        self._writing.discard(sock)
        if (number := self._numbers.pop(sock, None)) is not None:
            self._selector.unregister(number)
            os.close(number)

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
        events = self._select(0.0 if called or self.soon else max(0.0, timeout_seconds))
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
        if (shared := self.shared) is None:
            return self._selector.select(timeout_seconds)
        shared.is_owner_awake = False
        if self._has_turn:
            self._has_turn = False
            shared.turns += 1
            shared.turn.release()
        if shared.ended:  # by a thread that saw this one awake, and so has not woken it
            timeout_seconds = 0.0
        try:
            return self._selector.select(timeout_seconds)
        finally:
            shared.is_owner_awake = True
            # A signal handler may raise here: then the next wait does not release the turn.
            self._has_turn = shared.turn.acquire()

    def linger(self, seconds: float) -> None:
        """Wait for a wake-up alone: what comes over the sockets meanwhile stays in them.

        Skipped while a write is pending, or when this thread was busy for more than half of that time.
        """
        now = time.monotonic()
        if self.soon or self._writing or seconds < BUSY_TIMES * (now - self._awake_since):
            return
        if seconds > 0:
            self._bell.select(seconds)

    def close(self) -> None:
        """Close the selectors and its own sockets."""
        for part in (self._bell, self._selector, self._reader, self._writer):
            part.close()
        while self._numbers:
            os.close(self._numbers.popitem()[1])

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

    They are in an epoll of their own, which the owner looks at while no deputy waits: a deputy comes and goes
    without a wake-up. Who holds ``turn``, a lock, may use what is the owner's, which has it while awake.
    """

    def __init__(self, event_loop: EventLoop, selector: selectors.EpollSelector) -> None:
        self.turn, self.turns = threading.Lock(), 0  # turns that have ended; each reading ends one
        self.is_owner_awake = True  # then it looks at ``ended`` before it sleeps
        self.epoll = select.epoll()
        self._callbacks: dict[int, tuple[Any, Callback]] = {}
        """Socket and callback, by a descriptor of ours, as in ``EventLoop``."""
        selector.register(self.epoll, selectors.EVENT_READ, (self.read, None))
        self._owners = select.epoll.fromfd(os.dup(selector.fileno()))
        self.trust = 1
        """Positive: the next job is likely one that the deputy can run."""
        self.turners: set[int] = set()
        """Threads that follow each of their runs by a turn, or a wake-up; they may be deputies."""
        self.wake = event_loop.wake
        self.forget_work()

    def forget_work(self) -> None:
        """The owner alone knows what is to do."""
        # Another thread calls these in its turn, when it has read or ended a run: is the owner needed?
        self.after_read: Callable[[], bool] = lambda: True
        self.after_run: Callable[[], bool] = lambda: True
        self.ended: Sized = ()
        """Runs that have ended, of which nothing is written."""

    def settled(self) -> None:
        """A run has ended, and what is to be written of it waits. Called by any thread."""
        if threading.get_ident() not in self.turners:
            self.wake()

    def watch(self, sock: Any, readable: Callback) -> None:
        """As :meth:`EventLoop.watch`, by the thread that has the turn; as ``unwatch``."""
        self.unwatch(sock)
        number = os.dup(sock.fileno())
        self._callbacks[number] = (sock, readable)
        self.epoll.register(number, select.EPOLLIN)

    def unwatch(self, sock: Any) -> None:
        """Stop watching; a socket that is already closed or unknown is fine."""
        for number in [number for number, (known, _) in self._callbacks.items() if known is sock]:
            del self._callbacks[number]
            self.epoll.unregister(number)
            os.close(number)

    def read(self, *, is_untouched: bool = False) -> None:
        """Call what is readable now. By the thread that has the turn. ``is_untouched``: what was still is."""
        if is_untouched and len(self._callbacks) == 1:
            next(iter(self._callbacks.values()))[1]()
            return
        for _ in range(len(self._callbacks)):
            if ready := self.epoll.poll(0):
                self._callbacks[ready[0][0]][1]()
            if len(ready) < 2:  # else asked again: a callback may drop another socket, or read it
                return

    def lend(self, to_deputy: bool) -> None:
        """From now on a deputy waits, or the owner does."""
        self._owners.modify(self.epoll, 0 if to_deputy else select.EPOLLIN)


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
