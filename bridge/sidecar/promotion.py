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


class Promotion:
    """``post`` sends a body to one Puma worker and gives its reply's body; raises SidecarError."""

    def __init__(self, post: Callable[[str, bytes], bytes]) -> None:
        self._post = post
        self._away = False
        self._chain: tuple[str, ...] = ()

    def learn(self, chain: tuple[str, ...]) -> None:
        """The app's client middleware beyond Sidekiq's own, as the sidecar reports it."""
        self._chain = chain

    @property
    def active(self) -> bool:
        """Whether due jobs have to pass the sidecar."""
        return bool(self._chain)

    def __call__(self, members: Sequence[bytes]) -> Sequence[Passed]:
        """The effect on each. Without an answer of a sidecar they pass unchanged: to be late is worse.

        A batch is sent once: middleware may have run for one without an answer, and would meet its own lock.
        """
        return [passed for batch in _batches(members) for passed in self._ask_or_pass(batch)]

    def _ask_or_pass(self, payloads: Sequence[bytes]) -> list[Passed]:
        try:
            found = self._ask(payloads) if payloads and self._chain else [UNCHANGED] * len(payloads)
        except errors.SidecarError as error:
            if not self._away:
                logger.warning("due jobs do not pass the app's client middleware: %s", error)
            self._away = True
            return [UNCHANGED] * len(payloads)
        self._away = False
        return found

    def _ask(self, payloads: Sequence[bytes]) -> list[Passed]:
        body = b"".join(b"%d\n%s" % (len(payload), payload) for payload in payloads)
        reply = self._post(PATH, body)
        try:
            found = [_passed(entry) for entry in schema.read(schema.PROMOTED, reply).jobs]
        except ValueError as error:
            raise errors.OutcomeUnknown(f"the sidecar's reply to {PATH} makes no sense: {error}") from None
        if len(found) != len(payloads):
            raise errors.OutcomeUnknown(f"the sidecar answered {len(found)} of {len(payloads)} due jobs")
        return found


def _batches(payloads: Sequence[bytes]) -> list[list[bytes]]:
    batches: list[list[bytes]] = [[]]
    size = 0
    for payload in payloads:
        if size + len(payload) > LARGEST_BODY and batches[-1]:
            batches.append([])
            size = 0
        batches[-1].append(payload)
        size += len(payload)
    return batches


def _passed(entry: schema.Changed | schema.Halted | schema.Failed) -> Passed:
    match entry:
        case schema.Halted():
            return Passed({}, (), halted=True)
        case schema.Failed():
            return UNCHANGED
    return Passed(entry.fields, tuple(entry.removed))
