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
from bridge.errors import PushRefused, StoreUnavailable
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


Item = tuple[calls.Entry, Member | None]
"""A job of a slice; the member is None if the job is pushed elsewhere."""


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
    """Jobs that are pushed with this batch and name their own: those of a chord's header."""
    children: list[Block] = field(default_factory=list)
    expected: Sequence[str] = ()
    """The header of a chord: jids of jobs, in the order of their results."""
    ends: Sequence[tuple[str, str, None]] = ()
    """jid and class of tracked jobs that follow this batch."""

    def __post_init__(self) -> None:
        self._token = os.urandom(8).hex()
        self._slice = self._written = 0

    def add(self, push: Push, job_class: str, implied: Collection[str] | None) -> None:
        """Take a push: a :data:`collected.Collector`."""
        fields = json.loads(push.payload)
        jid = fields["jid"]
        if FIELD in fields:
            (self.owner_of(push) or self).foreign.append(Member(jid, job_class, push, implied))
            return
        payload = push.payload[:-1] + f',"{FIELD}":"{self.bid}"}}'.encode()
        self.members.append(Member(jid, job_class, dataclasses.replace(push, payload=payload), implied))

    def owner_of(self, push: Push) -> Block | None:
        """The chord inside of this block that has this job in its header."""
        bid = json.loads(push.payload).get(FIELD)
        return next((child for child in self.children if child.bid == bid), None)

    def write(self, context: BrokerContext) -> None:
        """Write the child batches, then the jobs, then close the batch.

        The jobs of a chord's header are written with the batch that waits for them. A header of one slice is
        pushed as a whole, or not at all.

        Raises:
            BatchRefused: the batch takes no jobs. Nothing was pushed.
            StoreUnavailable: Redis does not answer. The sentence says how many jobs it has.
        """
        context.note_queued(self.ends)
        through_ruby = [member for member in self.members if member.implied is not None]
        given = [member for member in self.foreign if member.implied is not None]
        header = header_entries(self.expected)
        if self.children or given:
            self._write_header(context, header)
            header = []
        for child in self.children:
            child.write(context)
        for member in given:
            context.write(member.push, member.job_class, member.implied)
        self._push_through_ruby(context, through_ruby)
        items = [(entry, None) for entry in header] + self._items()
        slices = list(_slices(items))
        for i, found in enumerate(slices):
            self._write(context, found, last=i == len(slices) - 1)

    def _write_header(self, context: BrokerContext, header: Sequence[calls.Entry]) -> None:
        for i in range(0, max(1, len(header)), SLICE_JOBS):
            self._write(context, [(entry, None) for entry in header[i : i + SLICE_JOBS]], last=False)

    def _items(self) -> list[Item]:
        """The jobs that this batch writes by itself."""
        found = [(member.jid, member) for member in self.members]
        found += [("", member) for member in self.foreign]
        return [(_entry(jid, member), member) for jid, member in found if member.implied is None]

    def _push_through_ruby(self, context: BrokerContext, members: Sequence[Member]) -> None:
        """The batch counts a job before the app pushes it."""
        for member in members:
            self._write(context, [(calls.Entry(member.jid, "", None, b""), None)], last=False)
            try:
                context.write(member.push, member.job_class, member.implied)
            except PushHalted:
                calls.forget(context.store(), self.bid, [member.jid])
            except PushRefused:
                calls.forget(context.store(), self.bid, [member.jid])
                raise

    def _write(self, context: BrokerContext, items: Sequence[Item], *, last: bool) -> None:
        self._slice += 1
        members = [member for _, member in items if member is not None]
        context.note_queued(
            [
                (tracked, member.job_class, member.push.at)
                for member in members
                if (tracked := member.push.tracked) is not None
            ]
        )
        self._run(context, calls.push(self._header(last=last), [entry for entry, _ in items]))
        self._written += len(members)
        for member in members:
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
    """The places of a chord's results."""
    return [calls.Entry(jid, "", None, b"", calls.ORDERED) for jid in jids]


def _entry(jid: str, member: Member) -> calls.Entry:
    return calls.Entry(jid, member.push.queue, member.push.at, member.push.payload)


def _slices(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    """At least one, which may be empty."""
    begin = size = 0
    for i, (entry, _) in enumerate(items):
        length = len(entry.payload)
        if i > begin and (i - begin == SLICE_JOBS or size + length > SLICE_BYTES):
            yield items[begin:i]
            begin, size = i, 0
        size += length
    yield items[begin:]
