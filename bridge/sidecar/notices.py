"""Tells sidecars how jobs ended outside of Ruby, so that death handlers and error handlers run there."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from bridge import errors
from bridge.sidecar import schema
from bridge.sidecar.breaker import Breaker
from bridge.sidecar.fleet import Fleet, Member
from bridge.sidekiq.outcome.notice import MOST
from bridge.sidekiq.store.notices import NoticeCalls, Waiting

logger = logging.getLogger(__name__)

DEATH, ERROR = "/jobs/death", "/jobs/error"
#: How often the outcome of one notice may be lost: each time, a Puma worker may have died of a handler.
MOST_TRIES = 5
#: After the first lost outcome, twice as long after each further one.
FIRST_PAUSE_SECONDS = 2.0
#: Until a Puma worker is asked again whose handlers still run.
RUNNING_PAUSE_SECONDS = 2.0
#: The heartbeat looks for notices, so the teller itself never does.
IDLE_SECONDS = 3600.0


class Post(Protocol):
    """Sends a body to one Puma worker, ``boot`` first, and gives its reply's body; raises SidecarError."""

    def __call__(self, path: str, body: bytes, boot: str = "") -> bytes:
        """Send it."""


class Teller:
    """``round`` is called by one thread, ``see`` by the heartbeat's."""

    def __init__(
        self,
        store: NoticeCalls,
        fleet: Fleet,
        post: Post,
        breaker: Breaker,
        nudge: Callable[[str], object] = lambda name: None,
    ) -> None:
        """``nudge`` asks the thread of this name for a round."""
        self._store = store
        self._fleet = fleet
        self._post = post
        self._breaker = breaker
        self._nudge = nudge
        self._is_full = False
        self.waiting = 0
        """How many notices waited at the last beat."""
        self.told = 0
        self.dropped = 0

    def see(self, waiting: int) -> None:
        """The heartbeat has counted the notices that wait."""
        self.waiting = waiting
        is_full = waiting >= MOST
        if is_full and not self._is_full:
            logger.error(
                "bridge:notices holds %d notices: the oldest are dropped until a sidecar takes them", waiting
            )
        self._is_full = is_full
        if waiting and not self._breaker.is_open:
            self._nudge("notices")

    def round(self) -> float:
        """Tell what waits. Returns seconds to the next round."""
        pause = IDLE_SECONDS
        while not self._breaker.is_open and (member := self._choose()) is not None:
            taken = self._store.take_notices(member.worker.boot)
            self._note_dropped(taken.dropped)
            if not taken.notices:
                break
            try:
                pause = min([pause, *self._tell(taken.notices, member.worker.boot)])
            except errors.SidecarError as error:
                logger.warning("notices for Ruby wait: %s", error)
                break
        return pause

    def _choose(self) -> Member | None:
        members = [one for one in self._fleet.members if one.worker.takes_notices and not one.worker.draining]
        return min(members, key=lambda one: one.running, default=None)

    def _note_dropped(self, count: int) -> None:
        if count:
            self.dropped += count
            logger.error(
                "%d notices for Ruby were dropped, because too many waited: death handlers or error handlers "
                "did not run for those jobs",
                count,
            )

    def _tell(self, notices: Sequence[Waiting], boot: str) -> Iterator[float]:
        """Yields the seconds for which a notice was put off.

        Raises:
            SidecarError: no sidecar took the last of them.
        """
        left = list(notices)
        while left:
            batch = _batch(left)
            left = left[len(batch) :]
            try:
                yield from self._tell_batch(batch, batch[0].boot or boot)
            except errors.OutcomeUnknown as error:
                yield from self._lost(batch, batch[0].boot or boot, error)
            except errors.JobRefused as error:
                self._drop(batch, str(error))
            except errors.SidecarError:
                self._store.release_notices([*batch, *left])
                raise

    def _tell_batch(self, batch: Sequence[Waiting], boot: str) -> Iterator[float]:
        """One request for what the death handlers hear, then one for what the error handlers hear."""
        discarded: set[str] = set()
        pending = list(batch)
        for path, key in ((DEATH, "death"), (ERROR, "errors")):
            asked = [notice for notice in pending if notice.head.get(key)]
            if asked:
                said = self._ask(path, asked, boot)
                discarded |= {one.id for one in said if one.discard}
                done = {one.id for one in said if one.status == "told"}
                running = {one.id for one in said if one.status == "running"}
                unasked = [notice for notice in asked if notice.id not in done | running]
                self._store.release_notices(unasked)
                for notice in asked:
                    if notice.id in running:
                        self._store.put_notice_off(
                            notice, RUNNING_PAUSE_SECONDS, tries=notice.tries, boot=boot
                        )
                        yield RUNNING_PAUSE_SECONDS
                pending = [notice for notice in pending if notice not in asked or notice.id in done]
        for notice in pending:
            self.told += self._store.notice_told(notice, discard=notice.id in discarded)

    def _ask(self, path: str, notices: Sequence[Waiting], boot: str) -> Sequence[schema.Told]:
        body = b"".join(b"%d\n%s" % (len(one.entry), one.entry) for one in notices)
        reply = self._post(path, body, boot)
        try:
            return schema.read(schema.NOTICES, reply).notices
        except ValueError as error:
            raise errors.OutcomeUnknown(f"the sidecar's reply to {path} makes no sense: {error}") from None

    def _lost(self, batch: Sequence[Waiting], boot: str, error: errors.SidecarError) -> Iterator[float]:
        """The Puma worker may have died of one of them: from now on each is told alone."""
        logger.warning("the outcome of %d notices for Ruby was lost: %s", len(batch), error)
        hopeless = [notice for notice in batch if notice.tries + 1 >= MOST_TRIES]
        self._drop(hopeless, f"the outcome was lost {MOST_TRIES} times, the last time: {error}")
        for notice in batch:
            if notice not in hopeless:
                pause = FIRST_PAUSE_SECONDS * 2.0**notice.tries
                self._store.put_notice_off(notice, pause, tries=notice.tries + 1, boot=boot)
                yield pause

    def _drop(self, notices: Sequence[Waiting], reason: str) -> None:
        for notice in notices:
            logger.error(
                "dropped the notice %s for Ruby, its handlers may not have run: %s", notice.id, reason
            )
            self._store.notice_told(notice)
        self.dropped += len(notices)


def _batch(notices: Sequence[Waiting]) -> list[Waiting]:
    """The first of them, with those that may go with it to the same Puma worker."""
    first, batch = notices[0], [notices[0]]
    if first.tries or first.boot:
        return batch
    for notice in notices[1:]:
        if notice.tries or notice.boot:
            break
        batch.append(notice)
    return batch
