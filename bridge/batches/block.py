"""The jobs of one ``with batch.jobs():`` block, and how they are written: in slices, the counter first.

A slice of jobs enters its queues in the step in which the batch counts it. A batch of one slice is opened,
filled and closed in one step.
"""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from bridge.batches import calls
from bridge.batches.effects import FIELD
from bridge.broker.context import BrokerContext
from bridge.broker.messages import Push
from bridge.broker.ruby_push import PushHalted
from bridge.errors import StoreUnavailable
from bridge.redis.scripts import Call

#: Most jobs and bytes of one slice: one script call, a few milliseconds of Redis' time.
SLICE_JOBS = 500
SLICE_BYTES = 1024 * 1024
#: Seconds between the attempts to write a slice: a repeated one does nothing.
PAUSES = (0.1, 0.5, 1.5)


class Member(NamedTuple):
    """A job of the batch, as it was pushed inside of its block."""

    jid: str
    job_class: str
    push: Push
    implied: Collection[str] | None
    """Not None: the job passes the Rails app."""


@dataclass(eq=False)
class Block:
    """Collects pushes; ``write`` writes them."""

    bid: str
    fields: Mapping[str, str | bytes]
    """Of a new batch: its callbacks and its parent."""
    is_new: bool
    adder: str = ""
    """jid of the job of this batch that adds others to it."""
    members: list[Member] = field(default_factory=list)
    foreign: list[Member] = field(default_factory=list)
    """Jobs of chords, which belong to the batches of these."""
    children: list[Block] = field(default_factory=list)
    expected: Sequence[str] = ()
    """The header of a chord: jids of jobs that are pushed elsewhere, in the order of their results."""

    def __post_init__(self) -> None:
        self._token = os.urandom(8).hex()
        self._slice = self._written = 0

    def add(self, push: Push, job_class: str, implied: Collection[str] | None) -> None:
        """Take a push: a :data:`collected.Collector`."""
        fields = json.loads(push.payload)
        jid = fields["jid"]
        if FIELD in fields:
            self.foreign.append(Member(jid, job_class, push, implied))
            return
        payload = push.payload[:-1] + f',"{FIELD}":"{self.bid}"}}'.encode()
        self.members.append(Member(jid, job_class, dataclasses.replace(push, payload=payload), implied))

    def write(self, context: BrokerContext) -> None:
        """Write the child batches, then the jobs, then close the batch.

        Raises:
            BatchRefused: the batch takes no jobs. Nothing was pushed.
            StoreUnavailable: Redis does not answer. The sentence says how many jobs it has.
        """
        if self.children:
            self._write(context, [], last=False)
        for child in self.children:
            child.write(context)
        for member in self.foreign:
            context.write(member.push, member.job_class, member.implied)
        through_ruby = [member for member in self.members if member.implied is not None]
        self._push_through_ruby(context, through_ruby)
        slices = list(_slices([member for member in self.members if member.implied is None]))
        for i in range(0, len(self.expected), SLICE_JOBS):
            self._write(context, [], last=False, more=header_entries(self.expected[i : i + SLICE_JOBS]))
        for i, members in enumerate(slices):
            self._write(context, members, last=i == len(slices) - 1)

    def _push_through_ruby(self, context: BrokerContext, members: Sequence[Member]) -> None:
        """The batch counts a job before the app pushes it."""
        for member in members:
            self._write(context, [member], last=False)
            try:
                context.write(member.push, member.job_class, member.implied)
            except PushHalted:
                calls.forget(context.store(), self.bid, [member.jid])

    def _write(
        self,
        context: BrokerContext,
        members: Sequence[Member],
        *,
        last: bool,
        more: Sequence[calls.Entry] = (),
    ) -> None:
        self._slice += 1
        context.note_queued(
            [
                (tracked, member.job_class, member.push.at)
                for member in members
                if (tracked := member.push.tracked) is not None and member.implied is None
            ]
        )
        call = calls.push(self._header(last=last), [*map(_entry, members), *more])
        self._run(context, call)
        self._written += len(members)
        for member in members:
            if member.implied is None:
                context.pushes.add(member.push.queue, member.job_class)

    def _header(self, *, last: bool) -> calls.Header:
        return calls.Header(
            self.bid,
            self._token,
            self._slice,
            is_new=self.is_new,
            is_last=last,
            adder=self.adder,
            fields=self.fields,
        )

    def _run(self, context: BrokerContext, call: Call) -> None:
        for pause in (*PAUSES, None):
            try:
                calls.run(context.store(), call, self.bid)
                break
            except StoreUnavailable as outage:
                if pause is None:
                    raise StoreUnavailable(
                        f"{outage}; batch {self.bid} has {self._written} of {len(self.members)} jobs and "
                        f"stays open: no callback follows (`bridge batches --close {self.bid}` ends that)"
                    ) from outage
                time.sleep(pause)


def header_entries(jids: Sequence[str]) -> list[calls.Entry]:
    """The jobs of a chord's header, which are pushed elsewhere."""
    return [calls.Entry(jid, "", None, b"", calls.ORDERED) for jid in jids]


def _entry(member: Member) -> calls.Entry:
    if member.implied is not None:
        return calls.Entry(member.jid, "", None, b"")
    return calls.Entry(member.jid, member.push.queue, member.push.at, member.push.payload)


def _slices(members: Sequence[Member]) -> Iterator[Sequence[Member]]:
    """At least one, which may be empty."""
    begin = size = 0
    for i, member in enumerate(members):
        length = len(member.push.payload)
        if i > begin and (i - begin == SLICE_JOBS or size + length > SLICE_BYTES):
            yield members[begin:i]
            begin, size = i, 0
        size += length
    yield members[begin:]
