"""A batch as a program sees it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, Self

from bridge.batches import calls, opening, reader
from bridge.batches.block import Block
from bridge.batches.callbacks import EVENTS, Callback, callbacks
from bridge.batches.effects import FIELD
from bridge.batches.reader import BatchStatus
from bridge.broker.context import BrokerContext
from bridge.broker.messages import DELIVERY_HEADER
from bridge.errors import BatchRefused
from bridge.sidekiq.fetch.unit_of_work import Delivery
from bridge.sidekiq.payload.job import SidekiqJob


class Batch:
    """Jobs of Ruby or Python, and the jobs that follow them.

    ``on_complete`` follows when every job has run once, ``on_success`` when all are done, and ``on_death``
    when the first one is dead. Each is the name of a class, a task, a signature, or a list of these.
    Arguments come with a signature, or with the methods of the same names. A callback is an ordinary job.

    The jobs are pushed at the end of ``with batch.jobs():``. If the block raises, no job is pushed.
    """

    app: ClassVar[Any] = None
    """The application; ``bridge.Batch`` has one."""

    def __init__(
        self, description: str = "", *, on_complete: Any = (), on_success: Any = (), on_death: Any = ()
    ) -> None:
        self.bid = os.urandom(12).hex()
        self.description = description
        self._is_new = True
        self._callbacks: dict[str, list[Callback]] = {event: [] for event in EVENTS}
        for event, jobs in zip(EVENTS, (on_complete, on_success, on_death), strict=True):
            for job in jobs if isinstance(jobs, list | tuple) else [jobs]:
                self._on(event, job)

    def on_complete(self, job: Any, *args: Any) -> Self:
        """Push this job when every job of the batch has run once, whatever its end."""
        return self._on("complete", job, *args)

    def on_success(self, job: Any, *args: Any) -> Self:
        """Push this job when all jobs of the batch are done."""
        return self._on("success", job, *args)

    def on_death(self, job: Any, *args: Any) -> Self:
        """Push this job when the first job of the batch is dead."""
        return self._on("death", job, *args)

    @contextmanager
    def jobs(self) -> Iterator[Self]:
        """Collect the pushes inside, and push them at the end, all as jobs of this batch.

        A batch whose block is inside the block of another batch is its child: the outer one waits for it.

        Raises:
            BatchRefused: the batch is finished or forgotten, or Redis drops keys when it is full.
            StoreUnavailable: Redis does not answer.
        """
        context = self._context()
        block = self._block(context)
        with opening.collecting(block):
            yield self
        opening.push(context, block)
        self._is_new = False

    def status(self) -> BatchStatus:
        """Counts of the batch as of now. Raises BatchRefused for a batch that Redis does not know."""
        found = reader.status(self._context().store().client, self.bid)
        if found is None:
            raise calls.refusal(self.bid, "BATCHGONE") or AssertionError
        return found

    def forget(self, *jids: str) -> int:
        """Wait no longer for these jobs: a person deleted them. Returns for how many the batch waited."""
        return calls.forget(self._context().store(), self.bid, jids)

    @classmethod
    def find(cls, bid: str) -> Self:
        """The batch with this id, to add jobs to it or to read it. Raises BatchRefused."""
        found = cls.__new__(cls)
        found.bid, found._is_new, found._callbacks = bid, False, {}
        found.description = found.status().description
        return found

    @classmethod
    def current(cls) -> Self | None:
        """The batch of the job that runs here; None outside of a job, or for a job without a batch."""
        job = cls._running()
        return None if job is None or not job.fields.get(FIELD) else cls.find(str(job.fields[FIELD]))

    # -- parts

    def _on(self, event: str, job: Any, *args: Any) -> Self:
        if not self._is_new:
            raise BatchRefused(f"on_{event}: batch {self.bid} is pushed already. Name its callbacks before.")
        self._callbacks[event] += callbacks(self.app, event, job, args)
        return self

    def _block(self, context: BrokerContext) -> Block:
        if self._is_new:
            return opening.new(context, self.bid, self.description, self._callbacks)
        return Block(self.bid, {}, is_new=False, adder=self._adder())

    def _adder(self) -> str:
        job = self._running()
        return job.jid or "" if job is not None and job.fields.get(FIELD) == self.bid else ""

    @classmethod
    def _running(cls) -> SidekiqJob | None:
        task = cls.app.current_worker_task
        delivery = getattr(task.request, DELIVERY_HEADER, None) if task is not None else None
        return SidekiqJob.parse(delivery.payload) if isinstance(delivery, Delivery) else None

    @classmethod
    def _context(cls) -> BrokerContext:
        context: BrokerContext = cls.app.bridge.context
        return context
