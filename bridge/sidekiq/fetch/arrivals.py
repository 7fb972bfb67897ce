"""Arrivals: the lists into which Redis moves jobs of this process, and the jobs that are still there."""

from __future__ import annotations

import functools
import itertools
import logging
import math
import time
import weakref
from collections import deque
from collections.abc import Callable

import redis

from bridge.redis import commands
from bridge.sidekiq.fetch.gate import Gate
from bridge.sidekiq.fetch.in_flight import InFlight
from bridge.sidekiq.fetch.journal import Journal
from bridge.sidekiq.fetch.native_queues import NativeQueues
from bridge.sidekiq.fetch.rooms import QueueRooms
from bridge.sidekiq.fetch.take import Take
from bridge.sidekiq.fetch.unit_of_work import Delivery, UnitOfWork
from bridge.sidekiq.lease.lease import Lease
from bridge.sidekiq.outcome.decision import GiveBack
from bridge.sidekiq.store.arrived import TOKENS_OF_A_LIST
from bridge.sidekiq.store.claims import ArrivedList, Claimed
from bridge.sidekiq.store.store import RedisStore

logger = logging.getLogger(__name__)

#: Seconds that a watch lasts at most, and by which it ends before the lease.
LONGEST_SECONDS, MARGIN_SECONDS = 20.0, 1.0
#: A watch that would last less is not worth its command.
SHORTEST_SECONDS = 0.25
#: Seconds after which a job that still runs enters the hash, where every tool looks for jobs in flight.
ENTER_SECONDS = 0.25
#: Seconds without such watches after Redis has refused one.
REST_SECONDS = 5.0


class Arrivals:
    """Opens lists for watches, admits what arrives in them, and closes them.

    ``open``, ``admit`` and ``close`` are called by the consumer's thread; ``doubt`` and ``fence`` by one
    thread at a time, under the lock of the exchange.
    """

    def __init__(
        self,
        store: RedisStore,
        lease: Lease,
        gate: Gate,
        in_flight: InFlight,
        journal: Journal,
        rooms: QueueRooms,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._lease = lease
        self._gate = gate
        self.in_flight = in_flight
        self._journal = journal
        self._rooms = rooms
        self.clock = clock
        self._numbers = itertools.count(1)
        self.watched: dict[ArrivedList, Take] = {}
        """Lists into which Redis may move jobs, and their watches."""
        self.own: dict[ArrivedList, int] = {}
        """Lists of large jobs, each with the token of its last job. ``LargeJobs`` adds them."""
        self._rest_until = 0.0
        self.young: deque[tuple[float, UnitOfWork]] = deque()
        """Jobs that have arrived, and when: each is in its list for a while."""
        self._units: dict[int, weakref.ref[UnitOfWork]] = {}
        self.doubtful: dict[ArrivedList, int] = {}
        """Lists to be fenced before anything else is written: their watch is closed, or was cut.

        With the token that an unnoticed job there would have had.
        """
        self._ended: set[ArrivedList] = set()
        """Those of them whose watch has ended for certain."""
        self.was_cut = False
        """Whether Redis may have come back with an older state, which names lists that are closed."""
        self.native = NativeQueues(gate)

    # -- watches

    def may_take(self, queue: str) -> bool:
        """Whether a watch may take jobs of this queue now, if a slot is free for it.

        Not of a queue with a limit of its own: a claim counts what it has room for. Not of a queue whose jobs
        keep an order at a limit either.
        """
        if self.in_flight.is_quiet or not self._lease.is_taken or self.clock() < self._rest_until:
            return False
        rooms = self._rooms
        if queue in rooms.limited or (rooms.marked.marks and rooms.marked.may_be_in(queue)):
            return False
        return not self._gate.restricts or self.native.are_in(queue)

    @property
    def seconds(self) -> float:
        """How long a watch may last that begins now: the lease outlives it. 0: too short a time."""
        left = self._lease.length_seconds - self._lease.age_seconds
        seconds = min(LONGEST_SECONDS, left - min(MARGIN_SECONDS, self._lease.length_seconds / 10))
        return seconds if seconds >= SHORTEST_SECONDS else 0.0

    def open(self, client: redis.Redis, queue: str) -> Take | None:
        """A watch with a list of its own. None where the lease is gone. Raises StoreError."""
        home = ArrivedList.of(self._lease.identity, f"{next(self._numbers)}:{queue}")
        if not self._store.open_arrived(home, len(self.watched) + len(self.own)):
            return None
        take = self.watched[home] = Take(client, home)
        return take

    def number(self, take: Take) -> None:
        """The watch begins: its job gets this token, so that tokens keep the order in which Redis gave jobs.

        A claim that is sent while the job is on its way takes the jobs behind it.
        """
        take.token = self._new_token()

    def _new_token(self) -> int:
        token = self.in_flight.next_token
        self.in_flight.next_token += 1
        return token

    def serves(self, take: Take) -> bool:
        """Whether this watch may go on: its list is open, and belongs to this worker."""
        return take.home in self.watched and take.home.identity == self._lease.identity

    def close(self, take: Take, *, ended: bool = False) -> None:
        """The watch is closed: what it has taken is found out with the next exchange.

        ``ended``: no command of it is on its way, so Redis need not refuse one.
        """
        if self.watched.pop(take.home, None) is not None:
            if ended:
                self._ended.add(take.home)  # first: another thread may fence the list at once
            self.doubtful[take.home] = take.token or self.in_flight.next_token
            if not ended:
                self.was_cut = True

    def refused(self, error: Exception) -> None:
        """Redis has refused a watch: look at queues instead. For a while, unless it forbids the command."""
        self._rest_until = math.inf if commands.is_forbidden(error) else self.clock() + REST_SECONDS

    # -- jobs

    def admit(self, take: Take, payload: bytes) -> tuple[UnitOfWork, ...]:
        """Hold this job, or give it back: it may not run here now, or no slot is free."""
        home, in_flight = take.home, self.in_flight
        if home not in self.watched and home not in self.doubtful:
            return ()  # the list was fenced meanwhile, and the job given back
        job = Claimed(home.queue, payload, take.token or self._new_token())
        take.token = 0
        units = self.hold(home, job)
        is_paused = take.is_marked and take.is_found_paused()
        if take.is_recovering:
            in_flight.note_recoveries(units)
        if units and (is_paused or not self._may_begin(units[0])):
            in_flight.give_back_all(units)
            return ()
        return units

    def hold(self, home: ArrivedList, job: Claimed, claimed_at_ms: int = 0) -> tuple[UnitOfWork, ...]:
        """Hold a job that is in this list; 0: it has come just now. Returns none that is not to run."""
        claimed_at_ms = claimed_at_ms or int((time.time() + self._store.ahead) * 1000)
        units = self.in_flight.admit(home.identity, (job,), claimed_at_ms, home.key)
        for unit in units:
            self.young.append((self.clock(), unit))
            # Not a WeakValueDictionary: it enters four functions of Python's for each job.
            self._units[job.token] = weakref.ref(unit, functools.partial(self._units.pop, job.token))
        return units

    @property
    def units(self) -> list[UnitOfWork]:
        """All that have arrived and are not settled: a thread that lets a job go has it in no other place."""
        return [unit for known in self._units.copy().values() if (unit := known()) is not None]

    def _may_begin(self, unit: UnitOfWork) -> bool:
        in_flight = self.in_flight
        if in_flight.is_quiet or len(in_flight.held) > in_flight.slots:
            return False
        if unit.delivery.queue in self._rooms.limited:
            return False
        if not self._gate.restricts:
            return True
        admitted = self._gate.admits(unit.job)
        self.native.note(unit.delivery.queue, admitted=admitted)
        return admitted

    @property
    def enter_in_seconds(self) -> float | None:
        """Until a job enters the hash that has run for a while; None where no job is in a list."""
        held = self.in_flight.held
        while self.young:
            arrived_at, unit = self.young[0]
            if unit.arrived and unit.delivery.token in held:
                return max(0.0, arrived_at + ENTER_SECONDS - self.clock())
            self.young.popleft()
        return None

    @property
    def is_due(self) -> bool:
        """Whether there is something to write: a list in doubt, or a job that has run for a while."""
        return self.was_cut or bool(self.doubtful) or self.enter_in_seconds == 0.0

    def write(self) -> None:
        """Fence the lists in doubt, and enter jobs that have run for a while. Raises StoreError."""
        if self.was_cut or self.doubtful:
            self.fence()
        if self.enter_in_seconds == 0.0:
            now, held = self.clock(), self.in_flight.held
            units = [unit for at, unit in self.young if unit.arrived and now - at >= ENTER_SECONDS]
            self.in_flight.enter([unit for unit in units if unit.delivery.token in held])

    # -- the end of a list

    def doubt(self) -> None:
        """An answer of Redis is missing: it is not known what the lists hold."""
        self.was_cut = True
        last = self.in_flight.next_token
        self.doubtful |= {home: take.token or last for home, take in self.watched.items()} | self.own
        self.watched.clear()
        self.own.clear()

    def fence(self) -> None:
        """Close the lists in doubt. Jobs that arrived unnoticed are given back. Raises StoreError."""
        if self.was_cut:
            # A restored Redis also names lists that were closed since: their jobs may be in no other place.
            found = (
                set(self._store.arrived_lists(self._lease.identity)) - self.watched.keys() - self.own.keys()
            )
            self.doubtful = dict.fromkeys(found, self.in_flight.next_token) | self.doubtful
            self.was_cut = False
        for home, place in list(self.doubtful.items()):
            units = [unit for unit in self.units if unit.arrived == home.key]
            known = [(unit.delivery.token, unit.delivery.payload) for unit in units]
            first = self.in_flight.next_token
            self.in_flight.next_token += TOKENS_OF_A_LIST
            unknown = self._store.fence_arrived(home, first, known, ended=home in self._ended)
            for unit in units:
                unit.arrived = ""
            for token, payload in reversed([*enumerate(unknown, first)]):
                delivery = Delivery(home.identity, token, home.queue, payload, 0)
                # It may have run: Redis may have been restored from an older state.
                self._journal.add(UnitOfWork.stray(delivery), GiveBack(may_run=True), place=place)
            self.doubtful.pop(home, None)
            self._ended.discard(home)
