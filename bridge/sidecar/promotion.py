"""Due jobs through the app's client middleware: the sidecar says what that changes, the worker moves them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from bridge import errors
from bridge.sidecar import schema
from bridge.sidekiq.schedule.due_entry import UNCHANGED, Passed

logger = logging.getLogger(__name__)

PATH = "/jobs/promote"
#: Bytes of payloads in one request, well below a sidecar's limit.
LARGEST_BODY = 4 * 1024 * 1024
#: Most entries in one request, fewer after slow middleware: a lost answer costs the verdicts of all.
MOST = 100


class Promotion:
    """``post`` sends a body to one Puma worker and gives its reply's body; raises SidecarError."""

    def __init__(self, post: Callable[[str, bytes], bytes]) -> None:
        self._post = post
        self._away = False
        self._chain: tuple[str, ...] = ()
        self._most = MOST

    def learn(self, chain: tuple[str, ...]) -> None:
        """The app's client middleware beyond Sidekiq's own, as the sidecar reports it."""
        self._chain = chain

    @property
    def active(self) -> bool:
        """Whether due jobs have to pass the sidecar."""
        return bool(self._chain)

    def __call__(self, members: Sequence[bytes]) -> Sequence[Passed]:
        """The effect on the first of them. Without an answer of a sidecar all pass unchanged: late is worse.

        A batch is sent once: middleware may have run for one without an answer, and would meet its own lock.
        The sidecar answers for fewer entries where middleware is slow, and runs it for no others.
        """
        if not members or not self._chain:
            return [UNCHANGED] * len(members)
        batch = _first_batch(members[: self._most])
        try:
            found = self._ask(batch)
        except errors.SidecarError as error:
            if not self._away:
                logger.warning("due jobs do not pass the app's client middleware: %s", error)
            self._away, self._most = True, 1
            return [UNCHANGED] * len(members)
        self._away = False
        self._most = min(MOST, 2 * self._most) if len(found) == len(batch) else len(found)
        return found

    def _ask(self, payloads: Sequence[bytes]) -> list[Passed]:
        body = b"".join(b"%d\n%s" % (len(payload), payload) for payload in payloads)
        reply = self._post(PATH, body)
        try:
            found = [_passed(entry) for entry in schema.read(schema.PROMOTED, reply).jobs]
        except ValueError as error:
            raise errors.OutcomeUnknown(f"the sidecar's reply to {PATH} makes no sense: {error}") from None
        if not 0 < len(found) <= len(payloads):
            raise errors.OutcomeUnknown(f"the sidecar answered {len(found)} of {len(payloads)} due jobs")
        return found


def _first_batch(payloads: Sequence[bytes]) -> list[bytes]:
    batch: list[bytes] = []
    size = 0
    for payload in payloads:
        size += len(payload)
        if batch and size > LARGEST_BODY:
            break
        batch.append(payload)
    return batch


def _passed(entry: schema.Changed | schema.Halted | schema.Failed) -> Passed:
    match entry:
        case schema.Halted():
            return Passed({}, (), halted=True)
        case schema.Failed():
            return UNCHANGED
    return Passed(entry.fields, tuple(entry.removed))
