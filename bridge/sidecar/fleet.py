"""All Puma workers of all sidecars, and which of them gets the next job."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from bridge import errors
from bridge.sidecar.address import Address
from bridge.sidecar.health import Health, HealthProbe, PumaWorker
from bridge.sidecar.http import HttpConnection

#: Seconds for which an unlisted Puma worker is still asked for jobs that it may run: its sidecar may have
#: been too slow to answer. As long as a lease: after the death of a whole machine nothing waits.
SILENT_SECONDS = 15.0
OLD_SIDECAR = "no sidecar runs middleware around Python code: upgrade the sidecar to this worker's release"


@dataclass(eq=False)
class Member:
    """One Puma worker with the idle connections to it. ``running`` counts the jobs this process has there."""

    worker: PumaWorker
    sidecar: Address | None = None
    """The configured address of the sidecar that it belongs to."""
    idle: list[HttpConnection] = field(default_factory=list)
    pid: int = field(default_factory=os.getpid)
    """Of the process whose connections these are."""
    stream: Any = None
    """The stream to it, once one is open. Belongs to the consumer's thread."""
    running: int = 0
    full_until: float = 0.0
    """Monotonic time until which it is passed over, because it said that it has no free slot."""
    left_at: float = 0.0
    """Monotonic time at which it was listed no more, or could not be reached."""

    def carry(self, stream: Any) -> None:
        """Jobs go over this stream from now on; None: over none. For the consumer's thread."""
        self.stream = stream

    def pass_over(self, seconds: float) -> None:
        """It has no free slot: send it no job for some seconds."""
        self.full_until = time.monotonic() + seconds

    def kept(self) -> HttpConnection | None:
        """Take a connection that is still open. None without one."""
        idle = self._own()
        while idle:
            with contextlib.suppress(IndexError):  # another thread was quicker
                connection = idle.pop()
                if not connection.stale:
                    return connection
                connection.close()
        return None

    def keep(self, connection: HttpConnection) -> None:
        """Nothing is under way on this connection: it may serve another request."""
        idle = self._own()
        with contextlib.suppress(IndexError):  # another thread was quicker
            # The last one in is the first one out: those at the bottom are not used any more.
            while idle and idle[0].rested:
                idle.pop(0).close()
        if len(idle) < self.worker.slots:
            idle.append(connection)
        else:
            connection.close()

    def _own(self) -> list[HttpConnection]:
        if self.pid != os.getpid():
            # After a fork the parent goes on using its own, and would miss the answers that are read here.
            self.idle, self.pid = [], os.getpid()
        return self.idle

    def close(self) -> None:
        """Close the idle connections."""
        while self.idle:
            self.idle.pop().close()


class Fleet:
    """Discovers Puma workers through ``/health`` and picks the least busy one. Safe for threads."""

    def __init__(
        self, addresses: Sequence[Address], probe: HealthProbe, silent_seconds: float = SILENT_SECONDS
    ) -> None:
        self._addresses = tuple(addresses)
        self._silent_seconds = silent_seconds
        self._probe = probe
        self._members: dict[str, Member] = {}
        self._leaving: list[Member] = []
        self._left: list[Member] = []
        self._lock = threading.Lock()
        self._refreshing = threading.Lock()
        self._refresh_began_at = float("-inf")

    @property
    def slots(self) -> int:
        """Jobs that all known Puma workers run at once."""
        return sum(member.worker.slots for member in list(self._members.values()))

    def refresh(self) -> list[Health]:
        """Ask all sidecars again. Returns the answers.

        Raises:
            SidecarUnavailable: none answered.
            SidecarRejected: one refuses us.
        """
        began_at = time.monotonic()
        answers, failures = self._ask_all()
        healths = [health for _, health in answers]
        with self._lock:
            self._replace(
                [(one, worker) for one, health in answers if health.ready for worker in health.workers]
            )
            self._leaving = [
                Member(worker, one)
                for one, health in answers
                if not health.ready
                for worker in health.workers
            ]
            self._left = [member for member in self._left if self._may_run_jobs(member)]
            self._refresh_began_at = began_at
        if not healths:
            raise failures[0]
        return healths

    def refresh_since(self, moment: float) -> None:
        """Be sure to know every Puma worker there was at this (monotonic) moment. Raises as ``refresh``.

        One round of questions serves all threads that came before it began.
        """
        with self._refreshing:
            if self._refresh_began_at < moment:
                self.refresh()

    def acquire(self, *, refresh: bool = True, python_code: bool = False) -> Member:
        """The Puma worker with the fewest of our jobs for its slots.

        ``python_code``: of those that run middleware around the Python code of a job.

        Raises:
            SidecarUnavailable: none is ready (``retry_after_seconds`` where all are merely full).
        """
        if not self._members and refresh:
            self.refresh()
        now = time.monotonic()
        with self._lock:
            if not self._members:
                raise errors.SidecarUnavailable("no sidecar is ready to take jobs")
            found, least = None, 1.0
            for member in self._members.values():
                worker = member.worker
                busy = member.running / worker.slots
                may_take = worker.python_code or not python_code
                if busy < least and may_take and member.full_until <= now and not worker.draining:
                    found, least = member, busy
            if found is None:
                raise self._none_free(python_code=python_code)
            found.running += 1
            return found

    def _none_free(self, *, python_code: bool) -> errors.SidecarUnavailable:
        if python_code and not any(member.worker.python_code for member in self._members.values()):
            return errors.SidecarUnavailable(OLD_SIDECAR, retry_after_seconds=1.0)
        return errors.SidecarUnavailable("all slots of the sidecar are busy", retry_after_seconds=0.05)

    def release(self, member: Member) -> None:
        """A job has ended there."""
        with self._lock:
            member.running -= 1

    @property
    def members(self) -> list[Member]:
        """All Puma workers that are known at the moment."""
        return list(self._members.values())

    @property
    def everyone(self) -> list[Member]:
        """The same, and those that take no more jobs but may still run some: ours, or another worker's."""
        with self._lock:
            self._left = [member for member in self._left if self._may_run_jobs(member)]
            known = [*self._left, *self._leaving, *self._members.values()]
        return list({member.worker.boot: member for member in known}.values())

    def forget(self, member: Member) -> None:
        """It cannot be reached: give it no more jobs until ``refresh`` finds it again."""
        with self._lock:
            self._members.pop(member.worker.boot, None)
            self._leave(member)

    def forget_sidecar(self, member: Member) -> None:
        """The whole sidecar goes down: forget this Puma worker and those beside it."""
        with self._lock:
            beside = [other for other in self._members.values() if other.sidecar == member.sidecar]
        for each in {member, *beside}:
            self.forget(each)

    def close(self) -> None:
        """Close all idle connections."""
        for member in list(self._members.values()):
            member.close()

    def _ask_all(self) -> tuple[list[tuple[Address, Health]], list[errors.SidecarUnavailable]]:
        answers: list[tuple[Address, Health]] = []
        failures: list[errors.SidecarUnavailable] = []
        for address in self._addresses:
            try:
                answers.append((address, self._probe.ask(address)))
            except errors.SidecarUnavailable as error:
                failures.append(error)
        return answers, failures

    def _replace(self, workers: Sequence[tuple[Address, PumaWorker]]) -> None:
        found: dict[str, Member] = {}
        for sidecar, worker in workers:
            known = self._members.get(worker.boot)
            if known is not None:
                known.worker = worker
            found[worker.boot] = known or Member(worker, sidecar)
        for boot, member in self._members.items():
            if boot not in found:
                self._leave(member)
        self._members = found

    def _may_run_jobs(self, member: Member) -> bool:
        """Whether one that has left must still be asked for jobs: ours, or another worker's."""
        return member.running > 0 or time.monotonic() - member.left_at < self._silent_seconds

    def _leave(self, member: Member) -> None:
        member.left_at = time.monotonic()
        if member not in self._left:
            self._left.append(member)
        member.close()
