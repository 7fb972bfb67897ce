from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from celery.worker import state

from bridge import event_loop, tasks
from bridge.concurrency.greenlets import RubyRuns
from bridge.event_loop import EventLoop
from bridge.sidecar.address import Address
from bridge.sidecar.fleet import Fleet, Member
from bridge.sidecar.health import PumaWorker
from bridge.sidecar.stream import Stream
from bridge.sidecar.stream_client import StreamingSidecar
from bridge.sidecar.stream_upgrade import OpenStream
from bridge.sidekiq.fetch.unit_of_work import Delivery, UnitOfWork
from bridge.sidekiq.outcome.decision import Done
from bridge.sidekiq.payload.job import SidekiqJob
from tests.support.unstarted_worker import Worker


class Sidecar:
    """One Puma worker at the other end of a stream of this thread, and the runs that go there."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.event_loop: EventLoop = event_loop.current()
        ours, self.theirs = socket.socketpair()
        puma = PumaWorker(Address.parse("unix:///nowhere"), "boot", slots=10, busy=0)
        fleet = Fleet([], SimpleNamespace())  # type: ignore[arg-type]
        fleet._members["boot"] = member = Member(puma)
        client: Any = SimpleNamespace(fleet=fleet, noted=lambda member, result: result)
        worker.bridge.sidecar = self.client = StreamingSidecar(client, self.event_loop, 1)  # type: ignore[assignment]
        self.stream = Stream(OpenStream(ours), self.event_loop, lambda: member.carry(None))
        member.carry(self.stream)
        self.client._streams.add(self.stream)
        self.runs = RubyRuns(worker.app)
        worker.pool.runner = lambda native: self.runs.begin  # type: ignore[assignment]

    def begin(self, token: int) -> UnitOfWork:
        """A job was claimed, and the fast path takes it."""
        jid = f"job {token}"  # no plain text: its reply is read by Celery's tracer
        payload = json.dumps({"class": "HardJob", "args": [], "jid": jid, "queue": "q"}).encode()
        delivery = Delivery(self.worker.bridge.lease.identity, token, "q", payload, 1000)
        unit = UnitOfWork(delivery, SidekiqJob.parse(payload))
        self.worker.bridge.fetcher.in_flight.held[token] = unit
        assert self.worker.take(unit)
        return unit

    def reply_to(self, unit: UnitOfWork, number: int) -> None:
        said = {"status": "done", "jid": unit.id, "delivery": unit.delivery.name, "duration_ms": 1.0}
        body = json.dumps(said).encode()
        self.theirs.sendall(b"%d 200 %d\n%b" % (number, len(body), body))

    def close(self) -> None:
        self.stream.close()
        self.theirs.close()


@pytest.fixture
def sidecar(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sidecar]:
    worker = Worker()
    monkeypatch.setattr(tasks, "app", worker.app)
    made = Sidecar(worker)
    yield made
    made.close()
    state.reset_state()


def test_a_job_that_ends_before_its_start_was_noted_is_done(sidecar: Sidecar) -> None:
    """A probe of the streams in that turn put the note off behind the reply: the job ran again."""
    # Given jobs that went out at once, in a turn in which the streams are to be probed
    sidecar.client.probe_streams()
    units = [sidecar.begin(token) for token in range(1, 6)]
    # When the sidecar replies before the worker waits
    for number, unit in enumerate(units, 1):
        sidecar.reply_to(unit, number)
    sidecar.event_loop.wait(1.0)
    # Then they have begun, and are done
    assert sidecar.worker.decisions == [Done()] * 5
    assert all(unit.started_at is not None for unit in units)
