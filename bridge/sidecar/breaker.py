"""The circuit breaker: no Ruby job leaves its queue while no sidecar can run it.

Own code, because the libraries let every waiting caller through at once when half open; here one probe
decides, and one job goes first.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from enum import Enum

from bridge import errors
from bridge.sidecar.fleet import Fleet
from bridge.sidecar.health import Health

logger = logging.getLogger(__name__)

PROBE_SECONDS = 5.0
FIRST_PROBE_SECONDS = 0.1
LONGEST_PROBE_SECONDS = 1.0
#: Seconds after the begin of an outage or a start, in which a user may be waiting for the first job.
EAGER_SECONDS = 30.0
EAGER_PROBE_SECONDS = 0.2
#: A start asks the sidecars before it makes its parts. The first round takes answers, or an error, this old.
ANSWERS_SECONDS = 1.0
#: A sidecar whose probe is well and which fails the job that goes first gets the next one after a pause.
FIRST_TRIAL_SECONDS = 0.5
LONGEST_TRIAL_SECONDS = 4.0


UNASKED = "the sidecar was not asked yet"


class State(Enum):
    """Of the circuit."""

    CLOSED = "closed"
    HALF_OPEN = "half_open"
    OPEN = "open"


class Breaker:
    """Opens at the first outage; a good probe half-opens it, a job that got through closes it.

    ``round`` is called again and again by a thread and probes; the rest may be called by any thread.
    ``on_health`` is told of each answer, ``before_probe`` is called before each probe and ``after_probe``
    after each good one, all in the probing thread; ``on_change`` when the state changes, ``probe_soon`` when
    an outage begins.
    """

    def __init__(
        self,
        fleet: Fleet,
        on_health: Callable[[Health], None] = lambda health: None,
        on_change: Callable[[], None] = lambda: None,
        before_probe: Callable[[], None] = lambda: None,
        after_probe: Callable[[], None] = lambda: None,
        probe_soon: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._fleet = fleet
        self._on_health = on_health
        self._on_change = on_change
        self._lock = threading.Lock()
        self._pause = FIRST_PROBE_SECONDS
        self._trial_pause = 0.0
        self.state = State.OPEN
        self.rejected: str | None = None
        """Why the sidecar refuses this worker, while it does: a wrong secret makes the worker unhealthy."""
        self.reason = UNASKED
        self.opened_at = self._clock()
        self._before_probe = before_probe
        self._after_probe = after_probe
        self._probe_soon = probe_soon
        self._early: list[Health] | errors.SidecarError | None = None
        """The answers, or the error, of a question before the first round."""
        self._asked_at = 0.0

    @property
    def is_open(self) -> bool:
        """Whether Ruby jobs must stay in their queues."""
        return self.state is State.OPEN

    def ask_early(self) -> None:
        """Ask before the first round, which then takes the answers or the error.

        Raises as ``Fleet.refresh``.
        """
        try:
            self._early = self._fleet.refresh()
        except errors.SidecarError as error:
            self._early = error
            raise
        finally:
            self._asked_at = self._clock()

    def round(self) -> float:
        """Probe once. Returns seconds until the next probe."""
        self._before_probe()
        try:
            healths = self._asked()
        except errors.SidecarRejected as error:
            self.reject(str(error))
        except errors.SidecarUnavailable as error:
            self.trip(str(error))
        else:
            self._take(healths)
        return self._next_probe_seconds()

    def trip(self, reason: str) -> None:
        """A job or a probe met an outage."""
        with self._lock:
            before = self.state
            news = before is not State.OPEN or self.reason == UNASKED
            self.state, self.reason = State.OPEN, reason
        if news:
            self.opened_at = self._clock()
            self._pause = FIRST_PROBE_SECONDS
            if before is State.HALF_OPEN:
                self._trial_pause = min(LONGEST_TRIAL_SECONDS, self._trial_pause * 2 or FIRST_TRIAL_SECONDS)
            logger.warning("Ruby jobs wait in their queues: %s", reason)
            self._on_change()
            self._probe_soon()

    def reject(self, reason: str) -> None:
        """The sidecar refuses this worker: no retry helps until a person has put it right."""
        if self.rejected != reason:
            logger.critical("Ruby jobs wait in their queues until this is put right: %s", reason)
        self.rejected = reason
        self.trip(reason)

    def passed(self) -> None:
        """A job got through."""
        if self.state is State.HALF_OPEN:
            self._close()

    def _asked(self) -> list[Health]:
        early, self._early = self._early, None
        if early is None or self._clock() >= self._asked_at + ANSWERS_SECONDS:
            return self._fleet.refresh()
        if isinstance(early, errors.SidecarError):
            raise early
        return early

    def _take(self, healths: list[Health]) -> None:
        for health in healths:
            self._on_health(health)
        if not any(health.ready for health in healths):
            self.trip(f"the sidecar is {healths[0].status}")
            return
        self.rejected = None
        self._after_probe()
        if self.state is not State.CLOSED:
            # The second good probe closes it as well: the one job that went first may take an hour.
            if self.state is State.OPEN:
                if self._clock() >= self.opened_at + self._trial_pause:
                    self._set(State.HALF_OPEN)
            else:
                self._close()

    def _close(self) -> None:
        self._trial_pause = 0.0
        self._set(State.CLOSED)
        logger.info("the sidecar runs jobs")

    def _set(self, state: State) -> None:
        with self._lock:
            self.state = state
        self._on_change()

    def _next_probe_seconds(self) -> float:
        if self.state is not State.OPEN:
            return PROBE_SECONDS if self.state is State.CLOSED else LONGEST_PROBE_SECONDS / 2
        eager = self._clock() < self.opened_at + EAGER_SECONDS
        longest = EAGER_PROBE_SECONDS if eager else LONGEST_PROBE_SECONDS
        pause, self._pause = self._pause, min(longest, self._pause * 2)
        return pause
