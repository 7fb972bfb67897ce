"""The pump: turns waiting, claiming and settling into deliveries for one consumer."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import redis

from bridge import errors
from bridge.broker.waiter import Waiter
from bridge.sidekiq import keys
from bridge.sidekiq.fetcher import Fetcher
from bridge.sidekiq.peek import Peek
from bridge.sidekiq.tracker import Tracker
from bridge.sidekiq.unit_of_work import Fetched, UnitOfWork

logger = logging.getLogger(__name__)

#: Each peek costs a connection. Queues beyond are watched together once they were quiet for a second.
PEEKED_QUEUES = 4
#: A claim each second of a quiet worker would be most of what it costs. So often it is enough to look.
POLLS_WITHOUT_CLAIM = 15
FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 1.0
#: So many wake-ups within this time that found nothing: somebody else is quicker, so back off.
VAIN_WAKES = 3
VAIN_SECONDS = 0.1


class Pump:
    """Runs on the consumer's thread: ``turn`` again and again, with waits between."""

    def __init__(
        self,
        fetcher: Fetcher,
        waiter: Waiter,
        client: redis.Redis,
        deliver: Callable[[UnitOfWork], None],
        poll_seconds: float = 1.0,
    ) -> None:
        self._poll_seconds = poll_seconds
        self._fetcher = fetcher
        self._waiter = waiter
        self._client = client
        self._deliver = deliver
        self._peeks: dict[str, Peek] = {}
        self._tracker: Tracker | None = None
        self._hungry = True
        self._poll_at = 0.0
        self._claim_at = 0.0
        self._pause = 0.0
        self._claims_fail = False
        self._vain: list[float] = []
        self._rearm_at = 0.0
        self._left_over = False

    def attend(self) -> None:
        """From now on this thread settles what others decide."""
        self._fetcher.wake = self._waiter.wake
        self._fetcher.interrupt = self._waiter.interrupt
        self._fetcher.attendant = self

    def turn(self) -> int:
        """Settle, claim and deliver once. Returns how many jobs were delivered."""
        claim = self._wants_claim()
        if not claim and not self._fetcher.unsettled:
            self._fetcher.progress += 1
            return 0
        try:
            fetched = self._fetcher.turn(claim=claim)
        except errors.StoreUnavailable as error:
            self._suffer(error, claim)
            return 0
        except errors.StoreError as error:
            self._suffer(error, claim, fault=True)
            return 0
        self._recovered(claim and not fetched.adopted)
        # First what was claimed, and on its way at once: to arm the watches takes as long as a small job.
        refused = [unit for unit in fetched.units if not self._hand_over(unit)]
        if claim:
            if fetched.units:
                self._waiter.run_soon()
            self._digest(fetched)
        if refused:
            # All at once, so that they keep their order; and not to be taken again at once.
            self._fetcher.give_back_all(refused)
            self._hungry, self._poll_at = False, time.monotonic() + self._poll_seconds
        return len(fetched.units)

    def next_event_seconds(self) -> float:
        """How long to wait at most before the next turn."""
        now = time.monotonic()
        if self._pause and (self._fetcher.free_slots or not self._claims_fail):
            return max(0.0, self._poll_at - now)
        if self._hungry and self._fetcher.free_slots:
            return 0.0
        return max(0.0, self._poll_at - now) if self._fetcher.free_slots else self._poll_seconds

    def detach(self) -> None:
        """Stop waiting for work. What is still held settles itself from now on."""
        if self._fetcher.attendant is self:
            # Not where a newer connection has taken over: nobody would wake it any more.
            self._fetcher.attendant = None
        self._drop_all()
        self._fetcher.flush()

    close = detach

    def _wants_claim(self) -> bool:
        if not self._fetcher.free_slots or not self._fetcher.order.names:
            self._disarm()
            return False
        if self._hungry and not self._pause:
            return True
        now = time.monotonic()
        return now >= self._poll_at and (not self._all_is_watched(now) or self._poll(now))

    def _all_is_watched(self, now: float) -> bool:
        """Whether the first queues are watched and nothing else asks for a claim: no pause, no cut watch."""
        if self._pause or now >= self._claim_at or not self._fetcher.takes_everything:
            return False
        watched = [self._peeks.get(name) for name in self._fetcher.order.names[:PEEKED_QUEUES]]
        return all(peek is not None and peek.armed and not peek.overdue for peek in watched)

    def _poll(self, now: float) -> bool:
        """Whether a queue beyond the watched ones has a job; from then on they are watched together."""
        self._poll_at = now + self._poll_seconds
        beyond = tuple(keys.queue(name) for name in self._fetcher.order.names[PEEKED_QUEUES:])
        watched = self._tracker is not None and self._tracker.watches(beyond)
        if not beyond or (watched and not self._left_over):
            return False
        try:
            # What was there may have been left there (few jobs at once, after an outage): asked again.
            self._left_over = self._track(beyond)
            return self._left_over
        except (redis.RedisError, OSError) as error:
            # Forbidden, or the link was cut: a claim looks as well, and knows what to do about an outage.
            logger.debug("cannot watch %d queues together: %s", len(beyond), error)
            self._drop_tracker()
            return True

    def _track(self, names: tuple[str, ...]) -> bool:
        self._tracker = tracker = self._tracker or Tracker(self._client)
        self._waiter.unwatch(tracker.socket)
        found = tracker.arm(names)
        self._waiter.watch(tracker.socket, self._told)
        return found

    def _told(self) -> None:
        assert self._tracker is not None
        self._hungry = True
        self._waiter.unwatch(self._tracker.socket)
        try:
            self._tracker.told()
        except (redis.RedisError, OSError) as error:
            logger.debug("the watch on many queues was cut: %s", error)
            self._drop_tracker()
        self._note_wake()

    def _drop_tracker(self) -> None:
        if self._tracker is not None:
            self._waiter.unwatch(self._tracker.socket)
            self._tracker.close()
        self._tracker = None

    def _digest(self, fetched: Fetched) -> None:
        now = time.monotonic()
        self._poll_at = now + self._poll_seconds
        # A claim learns of paused queues as well: while there are some, each poll is a claim.
        self._claim_at = now if fetched.paused else now + self._poll_seconds * POLLS_WITHOUT_CLAIM
        self._hungry = not fetched.drained
        if fetched.units:
            self._vain.clear()
        if fetched.drained and now >= self._rearm_at:
            self._arm(fetched.paused)

    def _hand_over(self, unit: UnitOfWork) -> bool:
        try:
            self._deliver(unit)
        except Exception:
            # A fault between claim and pool must not lose the job, nor those claimed with it.
            logger.exception("could not hand over jid=%s; it is given back", unit.job.jid)
            return False
        return True

    # -- peeks

    def _arm(self, paused: frozenset[str]) -> None:
        watched = [name for name in self._fetcher.order.names if name not in paused][:PEEKED_QUEUES]
        for name in list(self._peeks):
            if name not in watched:
                self._drop(self._peeks[name])
        for name in watched:
            self._arm_one(name)

    def _arm_one(self, name: str) -> None:
        peek = self._peeks.get(name)
        if peek is not None and peek.overdue:
            self._drop(peek)
            peek = None
        if peek is not None and peek.armed:
            return
        peek = peek or self._peeks.setdefault(name, Peek(self._client, name))
        try:
            watched = peek.socket
            peek.arm()
            if peek.socket is not watched:
                # Else it is watched still: it is silent while no BLMOVE is under way.
                self._waiter.unwatch(watched)
                self._waiter.watch(peek.socket, lambda: self._answered(peek))
        except (redis.RedisError, OSError) as error:
            logger.debug("cannot watch queue %s: %s", name, error)
            self._drop(peek)

    def _answered(self, peek: Peek) -> None:
        try:
            payload = peek.answered()
            found = payload is not None
        except (redis.RedisError, OSError) as error:
            logger.debug("the watch on queue %s was cut: %s", peek.queue, error)
            self._drop(peek)
            payload, found = None, True
        self._fetcher.peeked = (peek.queue, payload) if payload is not None else None
        self._hungry = self._hungry or found
        if not found:
            self._poll_at = self._claim_at = 0.0
        self._note_wake()

    def _note_wake(self) -> None:
        now = time.monotonic()
        self._vain = [at for at in self._vain if now - at < VAIN_SECONDS] + [now]
        if len(self._vain) >= VAIN_WAKES:
            self._rearm_at = now + VAIN_SECONDS / 2

    def _disarm(self) -> None:
        if self._fetcher.quiet:
            self._drop_all()

    def _drop_all(self) -> None:
        self._drop_tracker()
        for peek in list(self._peeks.values()):
            self._drop(peek)

    def _drop(self, peek: Peek) -> None:
        self._waiter.unwatch(peek.socket)
        peek.close()
        self._peeks.pop(peek.queue, None)

    # -- outages

    def _suffer(self, error: errors.StoreError, claim: bool, *, fault: bool = False) -> None:
        if not self._pause:
            level = logging.ERROR if fault else logging.WARNING
            logger.log(level, "fetching stops: %s; running jobs go on, trying again until it works", error)
        self._pause = min(LONGEST_PAUSE_SECONDS, self._pause * 2 or FIRST_PAUSE_SECONDS)
        self._poll_at = time.monotonic() + self._pause
        self._hungry, self._claims_fail = True, claim
        self._drop_all()
        self._fetcher.reconnect()

    def _recovered(self, claim: bool) -> None:
        if self._claims_fail and not claim:
            # A settlement got through, and claims may fail still: to say so at each would flood the log.
            return
        self._claims_fail = False
        if self._pause:
            logger.warning("fetching goes on: Redis is back")
        self._pause = 0.0
