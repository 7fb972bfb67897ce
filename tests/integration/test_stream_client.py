"""Parked tasks over streams to a real sidecar, and what happens when a stream is cut."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import greenlet
import psutil
import pytest

from bridge import errors
from bridge.event_loop import EventLoop
from bridge.sidecar import stream
from bridge.sidecar.address import Address
from bridge.sidecar.client import SidecarClient
from bridge.sidecar.fleet import Fleet
from bridge.sidecar.health import HealthProbe
from bridge.sidecar.parking import Parkable
from bridge.sidecar.result import JobResult, Status
from bridge.sidecar.signature import Signer
from bridge.sidecar.stream_client import StreamingSidecar
from bridge.sidecar.timeouts import Timeouts
from bridge.sidekiq.fetch.unit_of_work import Delivery, UnitOfWork
from bridge.sidekiq.payload import ruby_json
from bridge.sidekiq.payload.job import SidekiqJob
from tests.support.ledger import Ledger
from tests.support.sidecar_process import SidecarProcess


class Bench:
    """A streaming client on this thread, its sidecar, and tasks that wait for it."""

    def __init__(self, process: SidecarProcess, ledger: Ledger) -> None:
        self.process, self.ledger = process, ledger
        self.event_loop = EventLoop()
        signer = Signer(None)
        self.fleet = Fleet([Address.parse(process.url)], HealthProbe(signer, 5.0))
        self.client = SidecarClient(self.fleet, signer, Timeouts(full=5.0, repeat=3.0))
        self.sidecar = StreamingSidecar(self.client, self.event_loop, 4)
        # The sidecar remembers deliveries: each test is a worker of its own.
        self.identity = f"test:1:{time.time_ns():x}"
        self.token = 0
        self.ends: dict[int, Any] = {}

    def connect(self) -> None:
        self.fleet.refresh()
        self.sidecar.open_streams()
        self.until(lambda: all(member.stream for member in self.fleet.members), "streams to be open")

    def run(self, job_class: str, *args: Any) -> Delivery:
        """Start a task for a job; its result or error stands in ``ends`` under the token."""
        delivery = self.delivery(job_class, *args)
        Parkable(self._task, greenlet.getcurrent()).switch(delivery)
        return delivery

    def begin(self, job_class: str, told: list[Any]) -> None:
        """Send a job without a task that waits; ``told`` gets the milliseconds, the failure or "other"."""
        delivery = self.delivery(job_class)
        unit = UnitOfWork(delivery, SidekiqJob.parse(delivery.payload))
        assert self.sidecar.begin(unit, told.append, told.append, lambda: told.append("other"))

    def delivery(self, job_class: str, *args: Any) -> Delivery:
        self.token += 1
        jid = f"{time.time_ns():024x}"
        payload = ruby_json.encode(
            {"class": job_class, "args": list(args), "jid": jid, "retry": True, "queue": "default"}
        )
        return Delivery(self.identity, self.token, "default", payload, int(time.time() * 1000))

    def _task(self, delivery: Delivery) -> None:
        try:
            self.ends[delivery.token] = self.sidecar.execute(delivery)
        except errors.SidecarError as error:
            self.ends[delivery.token] = error

    def until(self, condition: Callable[[], Any], what: str, seconds: float = 15.0) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"waited in vain for {what}"
            self.event_loop.wait(0.05)

    def end_of(self, delivery: Delivery) -> Any:
        self.until(lambda: delivery.token in self.ends, f"the end of {delivery.name}")
        return self.ends[delivery.token]


@pytest.fixture(scope="module")
def process(redis_server: Any, ruby_root: Any) -> Iterator[SidecarProcess]:
    place = ruby_root.make_directory()
    url = redis_server.url_of(15)
    sidecar = SidecarProcess(ruby_root, place, url, arguments=("--workers", "2"), threads=5)
    yield sidecar
    sidecar.stop()


@pytest.fixture
def bench(process: SidecarProcess) -> Iterator[Bench]:
    ledger = Ledger(Path(process.url.removeprefix("unix://")).parent / "ledger")
    ledger.clear()
    made = Bench(process, ledger)
    made.connect()
    yield made
    for member in made.fleet.members:
        if member.stream is not None:
            member.stream.close()


def jid(delivery: Delivery) -> str:
    return str(ruby_json.parse(delivery.payload)[0]["jid"])


def test_many_tasks_wait_at_once_on_one_thread(bench: Bench) -> None:
    deliveries = [bench.run("SleepJob", 0.3) for _ in range(10)]
    assert not bench.ends, "all are parked"
    started = time.monotonic()
    results = [bench.end_of(delivery) for delivery in deliveries]
    assert all(result.status is Status.DONE for result in results)
    assert time.monotonic() - started < 2.0, "ten slots of two Puma workers ran them side by side"


def test_both_puma_workers_get_jobs(bench: Bench) -> None:
    for _ in range(4):
        bench.run("SleepJob", 0.2)
    assert sorted(member.running for member in bench.fleet.members) == [2, 2]
    bench.until(lambda: len(bench.ends) == 4, "all four")
    assert [member.running for member in bench.fleet.members] == [0, 0]


def test_a_reply_that_nobody_asks_for_keeps_no_slot_taken(bench: Bench) -> None:
    # The lease was lost while the job ran: its task ends without a look at the reply.
    told: list[str] = []

    bench.begin("StoppingJob", told)

    bench.until(lambda: told == ["other"], "the reply")
    bench.until(lambda: not any(member.running for member in bench.fleet.members), "the slot to be free")


def test_a_failure_is_told_with_what_ruby_decided_and_keeps_no_slot(bench: Bench) -> None:
    told: list[Any] = []

    bench.begin("FailJob", told)

    bench.until(lambda: told, "the reply")
    assert told[0].next.place == "retry"
    assert not any(member.running for member in bench.fleet.members)


def test_a_failure_carries_what_ruby_decided(bench: Bench) -> None:
    result = bench.end_of(bench.run("FailJob"))
    assert isinstance(result, JobResult)
    assert result.status is Status.FAILED
    assert result.next is not None
    assert result.next.place == "retry"


def test_bodies_with_newlines_and_of_any_size_arrive_as_they_are(bench: Bench) -> None:
    texts = ["a\nb\n\nc", "é" * 100_000, ""]
    deliveries = [bench.run("EchoJob", text) for text in texts]
    assert all(bench.end_of(delivery).status is Status.DONE for delivery in deliveries)
    seen = {line["jid"]: line["args"] for line in bench.ledger.lines if line["event"] == "done"}
    assert [seen[jid(delivery)] for delivery in deliveries] == [[text] for text in texts]


def test_a_cut_stream_runs_nothing_twice(bench: Bench) -> None:
    """The reply is asked for again at the same process, which knows the delivery and joins it."""
    delivery = bench.run("SleepJob", 1.0)
    bench.until(lambda: bench.ledger.events(jid(delivery)), "the job to start")
    for member in bench.fleet.members:
        member.stream.close()
    assert bench.end_of(delivery).status is Status.DONE
    assert bench.ledger.events(jid(delivery)).count("started") == 1


def test_without_a_stream_jobs_go_by_single_requests(bench: Bench) -> None:
    for member in bench.fleet.members:
        member.stream.close()
    assert bench.end_of(bench.run("EchoJob", 1)).status is Status.DONE


def test_after_the_secret_was_replaced_new_jobs_go_over_new_streams(bench: Bench) -> None:
    """A stream that was opened with a secret or a CA which is no longer valid went on without end."""
    old = [member.stream for member in bench.fleet.members]
    running = bench.run("SleepJob", 1.0)
    bench.until(lambda: bench.ledger.events(jid(running)), "the job to start")

    bench.sidecar.renew()
    bench.until(lambda: not any(member.stream for member in bench.fleet.members), "the streams to be left")
    bench.sidecar.open_streams()
    bench.until(lambda: all(member.stream for member in bench.fleet.members), "new streams")

    assert bench.end_of(bench.run("EchoJob", 1)).status is Status.DONE
    assert bench.end_of(running).status is Status.DONE, "over its old stream"
    bench.until(lambda: all(stream.closed for stream in old), "the old streams to end")
    assert all(member.stream and not member.stream.closed for member in bench.fleet.members)


def test_a_stream_to_a_vanished_puma_worker_ends_when_its_jobs_have(bench: Bench) -> None:
    delivery = bench.run("SleepJob", 0.5)
    streams = [member.stream for member in bench.fleet.members]
    bench.fleet._members.clear()
    bench.sidecar.open_streams()
    assert bench.end_of(delivery).status is Status.DONE
    bench.until(lambda: all(stream.closed for stream in streams), "the streams to end")


def test_a_stream_that_is_to_end_is_probed_too(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network healed, new streams were opened, and jobs on the old ones waited while their worker lived."""
    monkeypatch.setattr(stream, "PROBE_TIMEOUT_SECONDS", 0.3)
    delivery = bench.run("SleepJob", 2)
    bench.until(lambda: bench.ledger.events(jid(delivery)), "the job to start")
    streams = [member.stream for member in bench.fleet.members]
    pumas = psutil.Process(bench.process.process.pid).children()
    for puma in pumas:
        puma.suspend()
    try:
        bench.sidecar._retire_all_but([])

        def all_are_cut() -> bool:
            bench.sidecar.probe_streams()
            return all(each.closed for each in streams)

        bench.until(all_are_cut, "the streams to be cut")
    finally:
        for puma in pumas:
            puma.resume()
    assert bench.end_of(delivery).status is Status.DONE
    assert bench.ledger.events(jid(delivery)).count("started") == 1


def test_a_puma_worker_that_dies_leaves_an_unknown_outcome(bench: Bench) -> None:
    delivery = bench.run("SleepJob", 30)
    bench.until(lambda: bench.ledger.events(jid(delivery)), "the job to start")
    for child in psutil.Process(bench.process.process.pid).children():
        child.kill()
    assert isinstance(bench.end_of(delivery), errors.OutcomeUnknown)
