"""A relay without the secret can read and cut. Neither side believes anything that it writes.

A relay let both sides sign for each other and wrote a frame of its own behind the greeting: its job ran.
"""

from __future__ import annotations

import json
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bridge import errors
from bridge.event_loop import EventLoop
from bridge.sidecar.address import Address
from bridge.sidecar.client import SidecarClient
from bridge.sidecar.fleet import Fleet
from bridge.sidecar.health import HealthProbe
from bridge.sidecar.result import Status
from bridge.sidecar.signature import Signer
from bridge.sidecar.stream import Stream
from bridge.sidecar.timeouts import Timeouts
from bridge.sidekiq.fetch.unit_of_work import Delivery
from bridge.sidekiq.payload import ruby_json
from tests.support.ledger import Ledger
from tests.support.processes import ROOT, Process, free_port
from tests.support.relay import Relay
from tests.support.waiting import wait_for

SECRET = b"the-shared-secret-of-this-test"
FORGED = {"status": "done", "jid": "x", "delivery": "x", "duration_ms": 1}

pytestmark = pytest.mark.skipif(shutil.which("ruby") is None, reason="needs Ruby")


class Scene:
    """A real sidecar on TCP, a relay before it, and a client that was configured with the relay's address."""

    def __init__(self, directory: Path, redis_url: str) -> None:
        self.port = free_port()
        self.ledger = Ledger(directory / "ledger")
        command = ["ruby", ROOT / "sidecar/bin/sidecar", "--require", ROOT / "tests/support/ruby/jobs.rb"]
        command += ["--threads", "5", "--bind", f"tcp://127.0.0.1:{self.port}"]
        env = {"REDIS_URL": redis_url, "TEST_LEDGER": str(self.ledger.path)}
        env["BRIDGE_SIDECAR_SECRET"] = SECRET.decode()
        self.process = Process("sidecar", command, directory, env=env)
        self.process.wait_ready(lambda: "ready on" in self.process.log, 40)

    def between(self) -> Between:
        return Between(self)


class Between:
    """One relay and one client, which reaches the Puma worker through the relay as well."""

    def __init__(self, scene: Scene) -> None:
        self.scene, self.ledger = scene, scene.ledger
        self.relay = Relay(scene.port)
        signer = Signer(SECRET)
        self.probe = HealthProbe(signer, 3.0)
        self.address = Address.parse(self.relay.url)
        self.fleet = Fleet([self.address], self.probe)
        self.client = SidecarClient(self.fleet, signer, Timeouts(full=1.0, repeat=1.5))
        self.fleet.refresh()
        self.identity = f"test:1:{time.time_ns():x}"
        self.token = 0

    def delivery(self, job_class: str = "EchoJob") -> Delivery:
        self.token += 1
        fields = {"class": job_class, "args": ["x"], "jid": f"{time.time_ns():024x}", "retry": True}
        payload = ruby_json.encode(fields)
        return Delivery(self.identity, self.token, "default", payload, int(time.time() * 1000))


@pytest.fixture(scope="module")
def scene(redis_server: Any, ruby_root: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    if not ruby_root.is_system:
        pytest.skip("this sidecar runs on the system's Ruby")
    made = Scene(tmp_path_factory.mktemp("impostor"), redis_server.url_of(14))
    yield made
    made.process.stop()


@pytest.fixture
def between(scene: Scene) -> Iterator[Between]:
    made = scene.between()
    yield made
    made.relay.close()


def answer(status: int, body: Any) -> bytes:
    text = json.dumps(body).encode()
    return b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n" % (status, len(text)) + text


def test_through_an_honest_relay_all_is_well(between: Between) -> None:
    assert between.client.execute(between.delivery()).status is Status.DONE


@pytest.mark.parametrize(
    "tamper",
    [
        lambda data: data.replace(b'"status":"failed"', b'"status":"done"  '),
        lambda data: data.replace(b'"place":"retry"', b'"place":"none" '),
        lambda data: data.replace(b"HTTP/1.1 200", b"HTTP/1.1 202"),
        lambda data: data.replace(b"HTTP/1.1 200", b"HTTP/1.1 422"),
        lambda data: answer(200, FORGED),
        lambda data: answer(422, {"code": "refused", "message": "no"}),
        lambda data: answer(409, {"code": "superseded", "message": "drop it"}),
        lambda data: answer(413, {"code": "too_large", "message": "bury it"}),
    ],
)
def test_no_outcome_of_anothers_choice_is_believed(between: Between, tamper: Any) -> None:
    between.relay.down = tamper
    with pytest.raises(errors.OutcomeUnknown):
        between.client.execute(between.delivery("FailJob"))


def test_the_reply_to_another_request_is_not_believed(between: Between) -> None:
    done = between.delivery()
    assert between.client.execute(done).status is Status.DONE
    recorded = between.relay.seen_down[-1]
    assert b'"status":"done"' in recorded

    between.relay.down = lambda data: recorded
    with pytest.raises(errors.OutcomeUnknown):
        between.client.execute(done)


def test_the_refusal_of_a_request_that_a_relay_sent_twice_says_nothing_of_the_job(between: Between) -> None:
    """The first one had run. The signed 403 was taken for a job that had not begun."""
    job = between.delivery()
    refusals: list[bytes] = []

    def twice(data: bytes) -> bytes:
        if b"POST /jobs/execute" in data:
            # Over a connection of the relay's own, so that the worker's sees the refusal only.
            with socket.create_connection(("127.0.0.1", between.scene.port), 5) as first:
                first.sendall(data)
                assert b'"done"' in first.recv(65536)
        return data

    def note(data: bytes) -> bytes:
        refusals.append(data)
        return data

    between.relay.up, between.relay.down = twice, note
    with pytest.raises(errors.OutcomeUnknown):
        between.client.execute(job)
    assert any(b'"replay"' in data and b"x-bridge-signature" in data.lower() for data in refusals)
    jid = json.loads(job.payload)["jid"]
    assert between.ledger.events(jid).count("done") == 1


@pytest.mark.parametrize("status", [400, 401])
def test_an_unsigned_refusal_of_a_job_stops_the_worker_and_says_nothing_of_the_job(
    between: Between, status: int
) -> None:
    """The relay had it run and said 401: it would have been given back uncounted, again and again."""
    between.relay.down = lambda data: answer(status, {"code": "signature", "message": "no"})
    with pytest.raises(errors.OutcomeUnknown, match="unsigned") as caught:
        between.client.execute(between.delivery())
    assert caught.value.rejected


@pytest.mark.parametrize(
    "tamper",
    [
        lambda data: data.replace(b'"slots":5', b'"slots":9'),
        lambda data: data.replace(b'"max_jobs":10000', b'"max_jobs":00002'),
        lambda data: data.replace(b'"status":"ready"', b'"status":"drain"'),
        lambda data: answer(421, {"code": "misdirected", "message": "", "boot": "0" * 16}),
        lambda data: answer(200, {"protocol": 2}),
    ],
)
def test_no_health_of_anothers_choice_is_believed(between: Between, tamper: Any) -> None:
    between.relay.down = tamper
    with pytest.raises(errors.SidecarUnavailable, match="not signed"):
        between.probe.ask(between.address)


def test_nobody_can_bring_both_sides_down_to_version_1(between: Between) -> None:
    between.relay.up = lambda data: data.replace(b"X-Bridge-Protocol: 2", b"X-Bridge-Protocol: 1")
    with pytest.raises(errors.SidecarRejected):
        between.probe.ask(between.address)
    between.relay.honest()
    between.relay.down = lambda data: answer(200, {"protocol": 1, "status": "ready"})
    with pytest.raises(errors.SidecarUnavailable, match="not signed"):
        between.probe.ask(between.address)


def test_what_was_signed_for_one_sidecar_is_refused_by_another(between: Between, tmp_path: Path) -> None:
    """Both have the same secret. The request names the boot id of the one that is meant."""
    job = between.delivery()
    between.client.execute(job)
    [request] = [data for data in between.relay.seen_up if b"POST /jobs/execute" in data]
    other = Scene(tmp_path, "redis://127.0.0.1:1")
    try:
        with socket.create_connection(("127.0.0.1", other.port), 5) as client:
            client.sendall(request)
            assert client.recv(65536).startswith(b"HTTP/1.1 421")
        with socket.create_connection(("127.0.0.1", between.scene.port), 5) as client:
            client.sendall(request)
            assert b'"replay"' in client.recv(65536)
    finally:
        other.process.stop()


# -- streams


class Streaming:
    """A stream through the relay, read by this thread."""

    def __init__(self, between: Between) -> None:
        self.event_loop = EventLoop()
        self.cut: list[bool] = []
        self.replies: list[tuple[int | None, bytes]] = []
        [member] = between.fleet.members
        opened = between.client.open_stream(member)
        self.stream = Stream(opened, self.event_loop, lambda: self.cut.append(True))

    def send(self, delivery: Delivery) -> None:
        self.stream.send(delivery, lambda status, body: self.replies.append((status, body)))
        self.turn()

    def turn(self) -> bool:
        self.event_loop.wait(0.02)
        return True


@pytest.fixture
def streaming(between: Between) -> Iterator[Streaming]:
    made = Streaming(between)
    yield made
    made.stream.close()


def test_a_stream_through_an_honest_relay_works(between: Between, streaming: Streaming) -> None:
    for _ in range(3):
        streaming.send(between.delivery())
    wait_for(lambda: streaming.turn() and len(streaming.replies) == 3, "three replies", 10)
    assert {status for status, _ in streaming.replies} == {200}


def test_a_frame_that_a_relay_writes_runs_no_job(between: Between, streaming: Streaming) -> None:
    foreign = between.delivery()
    jid = json.loads(foreign.payload)["jid"]
    line = (
        f"E 1 {len(foreign.payload)} {foreign.identity} {foreign.token} {foreign.claimed_at_ms} 0 default\n"
    )
    for written in (line.encode(), b"0" * 32 + b" " + line.encode()):
        injecting = Streaming(between)
        between.relay.upstreams[-1].sendall(written + foreign.payload)
        wait_for(lambda one=injecting: one.turn() and one.cut, "the sidecar to end the stream", 10)
    assert between.ledger.events(jid) == []


@pytest.mark.parametrize(
    "tamper",
    [
        lambda frame: frame.replace(b" 200 ", b" 422 "),
        lambda frame: frame.replace(b'"failed"', b'"done"  '),
        lambda frame: frame[33:],
        lambda frame: frame + frame,
        lambda frame: b"0" * 32 + b" 1 200 2\n{}",
    ],
)
def test_a_frame_that_a_relay_changes_cuts_the_stream(
    between: Between, streaming: Streaming, tamper: Any
) -> None:
    between.relay.down = tamper
    streaming.send(between.delivery("FailJob"))
    wait_for(lambda: streaming.turn() and streaming.cut, "the stream to be cut", 10)
    assert [
        body for status, body in streaming.replies if status is not None and b'"failed"' not in body
    ] == []


def test_a_reply_that_a_relay_holds_back_is_missed_at_the_next_probe(
    between: Between, streaming: Streaming
) -> None:
    between.relay.down = lambda frame: b""
    streaming.send(between.delivery())
    wait_for(lambda: any(b'"done"' in data for data in between.relay.seen_down), "the reply", 10)
    assert not streaming.replies

    between.relay.honest()
    streaming.stream.probe()
    wait_for(lambda: streaming.turn() and streaming.cut, "the stream to be cut", 10)
    assert streaming.replies == [(None, b"")], "it is asked for again, at the same process"


def test_a_greeting_of_anothers_choice_opens_no_stream(between: Between) -> None:
    def other_nonce(data: bytes) -> bytes:
        head, _, rest = data.partition(b"x-bridge-nonce: ")
        return head + b"x-bridge-nonce: " + b"0" * 32 + rest[32:] if rest else data

    between.relay.down = other_nonce
    with pytest.raises(Exception, match="not signed"):
        Streaming(between)
    between.relay.down = lambda data: (
        b"HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: bridge-jobs\r\nX-Bridge-Boot: %s\r\n\r\n"
        % between.fleet.members[0].worker.boot.encode()
    )
    with pytest.raises(Exception, match="not signed"):
        Streaming(between)
