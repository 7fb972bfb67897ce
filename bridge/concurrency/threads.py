"""The threads that run native tasks, and the runs that wait for one.

Waking a thread costs more than a small job. So a run that comes in wakes one thread only. A thread that
takes a run wakes the next one only while there is more to take and no thread is on its way already. A task
that waits for something lets the woken thread go on, which wakes another: soon all slots are in use. A task
that does not wait is followed by the next on the same thread, since Python runs one of them at a time.

One idle thread may wait for the next job in place of the consumer's thread, and then runs that job itself.
A thread that has ended a run settles it and claims in place of that thread, and goes on with what it claims.
"""

from __future__ import annotations

import functools
import logging
import os
import select
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from bridge.event_loop import SharedSockets

logger = logging.getLogger(__name__)


#: ``trust`` in a deputy that has failed.
NEVER = -(10**9)

Run = Callable[[], None]
"""One run of a task, to its end. Raises nothing."""


class Deputy:
    """The place of an idle thread that waits for the shared sockets, instead of the consumer's thread."""

    def __init__(self, sockets: SharedSockets) -> None:
        self._sockets = sockets
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll = select.epoll()
        self._epoll.register(self._bell, select.EPOLLIN)
        self._epoll.register(sockets.epoll, select.EPOLLIN)

    def wait(self) -> bool:
        """Wait until a socket is readable. False: after ``release``, and the owner reads what has come."""
        ready = dict(self._epoll.poll())
        if is_released := self._bell in ready:
            os.eventfd_read(self._bell)
        return not is_released

    def release(self) -> None:
        """End the wait, now or when it begins: as of a lock that a thread waits for."""
        os.eventfd_write(self._bell, 1)


class NativeThreads:
    """A queue, and as many threads as are needed up to the limit. No Future for each job."""

    def __init__(self, limit: int, shared: SharedSockets | None = None) -> None:
        self._limit = limit
        self._shared = shared
        """The consumer's turn, for the threads; None: they have none."""
        self._deputy = None if shared is None else Deputy(shared)
        self._has_deputy = False
        """Whether a thread is in that place."""
        self._turning: int | None = None
        """The thread that has a turn of the consumer's."""
        self._own_run: Run | None = None
        """The first run that it has found."""
        self._lock = threading.Lock()
        self._runs: deque[Run] = deque()
        self._idle: list[threading.Lock | Deputy] = []
        """The lock that each idle thread waits for; the last to fall asleep is last, its caches are warm."""
        self._on_its_way = False
        self._stopping = False
        self.count = 0
        self.busy = 0

    def submit(self, run: Callable[..., None], *subject: Any) -> None:
        """Call ``run`` with ``subject`` in a thread. It raises nothing.

        Raises RuntimeError where the system gives not even one thread.
        """
        with self._lock:
            self.busy += 1
            if self._turning == threading.get_ident() and self._own_run is None:
                self._own_run = functools.partial(run, *subject)
                return
            if self._shared is not None and self._shared.trust < 1:
                self._shared.trust += 1
            self._runs.append(functools.partial(run, *subject))
            try:
                self._wake_one()
            except RuntimeError:
                # No thread will ever run it: the caller must do something else with it.
                self._runs.pop()
                self.busy -= 1
                raise

    def resize(self, limit: int) -> None:
        """Start no more threads than that from now on. Those that are there stay: idle ones cost nothing."""
        with self._lock:
            self._limit = limit
            if self._runs:
                self._wake_one()

    def stop(self) -> None:
        """End the threads; busy ones end after their run."""
        with self._lock:
            self._stopping = True
            while self._idle:
                self._idle.pop().release()

    def _wake_one(self) -> None:
        if self._on_its_way:
            return
        if self._idle:
            self._on_its_way = True
            self._idle.pop().release()
        elif self.count < self._limit:
            self._start_one()

    def _start_one(self) -> None:
        name = f"bridge-native-{self.count + 1}"
        try:
            threading.Thread(target=self._work, name=name, daemon=True).start()
        except RuntimeError as error:
            if not self.count:
                raise
            # Those that are there take what waits, one after the other.
            logger.warning("only %d of %d threads for native tasks: %s", self.count, self._limit, error)
            return
        self._on_its_way = True
        self.count += 1

    def _work(self) -> None:
        bell = threading.Lock()
        bell.acquire()
        if self._shared is not None:
            self._shared.turners.add(threading.get_ident())
        run = self._take(bell, arriving=True)
        while run is not None:
            try:
                run()
            finally:
                with self._lock:
                    self.busy -= 1
            run = self._follow() or self._take(bell, arriving=False)

    def _take(self, bell: threading.Lock, arriving: bool) -> Run | None:
        """The next run, or None when there will be no more; waits for it."""
        while True:
            with self._lock:
                if arriving:
                    self._on_its_way = False
                if self._runs:
                    run = self._runs.popleft()
                    if self._runs:
                        self._wake_one()
                    return run
                if self._stopping:
                    return None
                place = self._idle_at(bell)
            if place is bell:
                bell.acquire()
                arriving = True
                continue
            own_run, arriving = self._wait_as_deputy()
            if own_run is not None:
                return own_run

    # -- in place of the consumer's thread

    def _follow(self) -> Run | None:
        """A run of this thread has ended: have it settled. Returns the job that is claimed in that step."""
        if (shared := self._shared) is None or shared.is_owner_awake:
            return None  # the owner looks before it sleeps
        if self._runs or shared.trust < 1:
            shared.wake()  # the next run of this thread may be a long one
            return None
        return self._in_turn(shared)

    def _in_turn(self, shared: SharedSockets, turns: int | None = None) -> Run | None:
        """Have the consumer's turn, while its thread sleeps. Returns the first run that is submitted then.

        ``turns``: the caller has found a socket readable, and this number of turns had ended before.
        """
        is_needed, is_reader = True, turns is not None
        with shared.turn:
            self._turning = threading.get_ident()
            try:
                if is_reader:
                    shared.read(is_untouched=turns == shared.turns)
                is_needed = shared.after_read() if is_reader else shared.after_run()
            except Exception:
                logger.exception("a thread of the pool cannot wait for jobs; the worker's main thread does")
                shared.trust = NEVER
            finally:
                self._turning = None
                shared.turns += 1
                run, self._own_run = self._own_run, None
        if is_needed:
            shared.wake()
        return run

    def _idle_at(self, bell: threading.Lock) -> threading.Lock | Deputy:
        """Note that this thread is idle. The deputy is called last: its caches serve the next job best."""
        place = self._deputy
        if place is None or self._shared is None or self._shared.trust < 1 or self._has_deputy:
            self._idle.append(bell)
            return bell
        self._has_deputy = True
        self._idle.insert(0, place)
        return place

    def _wait_as_deputy(self) -> tuple[Run | None, bool]:
        """Wait in place of the consumer's thread.

        Returns the run that it has read, and whether it was called for one that was submitted.
        """
        place, shared, own_run = self._deputy, self._shared, None
        assert place is not None
        assert shared is not None
        shared.lend(to_deputy=True)
        turns = shared.turns  # first: what is read from now on ends a turn that counts
        try:
            if place.wait():
                own_run = self._in_turn(shared, turns)
        finally:
            shared.lend(to_deputy=False)
        with self._lock:
            self._has_deputy = False
            if place in self._idle:
                self._idle.remove(place)
                return own_run, False
            # It was called for another run, too, and its bell may ring still.
            if own_run is not None:
                self._on_its_way = False
                if self._runs:
                    self._wake_one()
            return own_run, True
