"""A worker that was never started, for tests of the fast path."""

from __future__ import annotations

import itertools
import json
from types import SimpleNamespace
from typing import Any

from bridge.broker.channel import Channel
from bridge.broker.qos import QoS
from bridge.celery import Bridge, make_app
from bridge.concurrency.hybrid import HybridPool
from bridge.fast_path import dispatch
from bridge.settings import load as load_settings
from bridge.sidekiq.fetch.unit_of_work import Delivery, UnitOfWork
from bridge.sidekiq.payload.job import SidekiqJob

TOKENS = itertools.count(1)


class Worker:
    """An application with a consumer that was never started, and what its pool was given."""

    def __init__(self) -> None:
        self.app: Bridge = make_app(load_settings({}))
        self.pool = HybridPool(2, app=self.app)
        self.begun: list[Any] = []
        self.pool.runner = lambda native: self.begun.append  # type: ignore[assignment]
        self.consumer = SimpleNamespace(
            app=self.app,
            pool=self.pool,
            hostname="me@here",
            event_dispatcher=None,
            connection_errors=(),
            on_task_message=set(),
        )
        self.app.set_current()  # as in a worker: Celery's tracer asks for it
        self.bridge = self.app.bridge
        self.bridge.context.listeners = 0
        self.bridge.fetcher.attach(
            SimpleNamespace(ticks=0, wake=lambda: None, settled=lambda: None, interrupt=lambda: None)
        )
        self.seen: list[dict[str, Any]] = []
        self.runs = 0
        self._add_tasks()

    def _add_tasks(self) -> None:
        @self.app.task(name="SeeJob", bind=True, shared=False)
        def see(task: Any, number: int) -> None:
            self.seen.append({**vars(task.request)})

        self.app.task(name="BreakJob", shared=False)(self._break)

    def _break(self, number: int) -> None:
        self.runs += 1
        raise ValueError("broken on purpose")

    def unit(self, job_class: str, token: int | None = None) -> UnitOfWork:
        """A job that was just claimed."""
        payload = json.dumps({"class": job_class, "args": [1], "jid": "0" * 24, "queue": "q"}).encode()
        delivery = Delivery(self.bridge.lease.identity, token or next(TOKENS), "q", payload, 1000)
        unit = UnitOfWork(delivery, SidekiqJob.parse(payload))
        self.bridge.fetcher.in_flight.held[delivery.token] = unit
        return unit

    def channel(self) -> Any:
        """What makes messages."""
        settle = QoS(SimpleNamespace(context=self.bridge.context)).ack
        channel = SimpleNamespace(
            context=self.bridge.context, no_ack_consumers=None, basic_ack=lambda tag, **_: settle(tag)
        )
        channel.message_for = lambda *chosen: Channel.message_for(channel, *chosen)
        return channel

    def take(self, unit: UnitOfWork) -> bool:
        """Whether the fast path takes it."""
        found = dispatch.of(self.consumer)
        assert found is not None
        return found(unit, self.channel())

    def plain(self, job_class: str, token: int | None = None) -> Any:
        """The request that the fast path makes."""
        assert self.take(self.unit(job_class, token))
        return self.begun.pop()

    @property
    def decisions(self) -> list[object]:
        """What waits to be written."""
        return [decision for _, decision in self.bridge.fetcher.journal.batch().decided]
