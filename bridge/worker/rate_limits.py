"""Rate limits of native tasks (``rate_limit``): a job whose time has not come takes no slot.

Celery's own bucket holds it in a slot, begins it on the timer's thread, and forgets it when the worker ends.
Here such a job is set aside in the worker. The consumer's thread begins it when its time has come and a slot
is free; a worker that ends gives it back.
"""

from __future__ import annotations

import functools
import logging
import time
from typing import Any

from celery.worker import state
from kombu.utils.limits import TokenBucket

from bridge import event_loop
from bridge.periodic import Periodic
from bridge.sidekiq.fetch.in_flight import InFlight

logger = logging.getLogger(__name__)

#: How long to wait for a slot before the next look.
SLOT_SECONDS = 0.05
IDLE_SECONDS = 60.0
UNLIMITED = 1_000_000_000


class RateLimits:
    """Holds the limited jobs of one consumer. Made on its thread, which also begins them."""

    def __init__(self, consumer: Any) -> None:
        self._consumer = consumer
        self._in_flight: InFlight = consumer.app.bridge.fetcher.in_flight
        self._event_loop = event_loop.current()
        self._later: dict[int, tuple[float, Any]] = {}
        """When to look at a bucket again, by a steady clock, and the bucket."""
        # Not Celery's timer: it sleeps up to a second, also when something earlier comes in.
        self._timer = Periodic("rate-limits", self._round)

    def hold(self, request: Any, bucket: Any, tokens: int) -> None:
        """Keep a job until its time has come, which may be now."""
        state.requests[request.id] = request  # a revoke finds it
        bucket.add((request, tokens))
        if len(bucket.contents) > 1 or bucket.expected_time(tokens) > 0 or not self._has_slot:
            self._in_flight.aside.add(request.delivery)
        self._serve(bucket)

    def move(self, old: Any, new: Any) -> None:
        """A control command has changed the limit: the jobs that wait follow the new one."""
        if old.contents:
            target: Any = new or TokenBucket(UNLIMITED, capacity=UNLIMITED)
            target.contents.extend(old.contents)
            old.clear_pending()
            self._serve(target)

    @property
    def _has_slot(self) -> bool:
        in_flight = self._in_flight
        return len(in_flight.held) - in_flight.aside.beside_slots <= in_flight.size

    def _serve(self, bucket: Any) -> None:
        if self._in_flight.is_quiet:
            self._in_flight.give_back_set_aside()
        while bucket.contents:
            request, tokens = bucket.contents[0]
            token = request.delivery.token
            if token not in self._in_flight.held:
                state.requests.pop(request.id, None)  # given back, or revoked
                bucket.pop()
                continue
            pause = bucket.expected_time(tokens)
            if not pause:
                self._in_flight.aside.make_ready(token)
                pause = 0.0 if self._has_slot else SLOT_SECONDS
            if pause:
                self._look_again(bucket, pause)
                return
            bucket.can_consume(tokens)
            bucket.pop()
            self._begin(request)

    def _look_again(self, bucket: Any, pause: float) -> None:
        self._later[id(bucket)] = time.monotonic() + pause, bucket
        self._timer.start()
        self._timer.nudge()

    def _round(self) -> float:
        """In the timer's thread: have the consumer's thread look at what is due."""
        now, waits = time.monotonic(), [IDLE_SECONDS]
        for name, (at, bucket) in list(self._later.items()):
            if at > now:
                waits.append(at - now)
            else:
                del self._later[name]
                self._event_loop.call_soon(functools.partial(self._serve, bucket))
        return min(waits)

    def _begin(self, request: Any) -> None:
        in_flight, token = self._in_flight, request.delivery.token
        was_aside = in_flight.aside.holds(token)
        if was_aside and not in_flight.aside.take(token):
            return  # the end of the worker has given it back
        if was_aside and in_flight.drop_expired(token):
            state.requests.pop(request.id, None)
            return
        try:
            self._consumer._limit_move_to_pool(request)
        except Exception:
            logger.exception("could not hand over jid=%s; it is given back", request.id)
            in_flight.give_back_all([unit for unit in [in_flight.held.get(token)] if unit is not None])
