"""Requests that no worker would send: the sidecar refuses them, runs nothing, and goes on."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bridge.sidecar.address import Address
from bridge.sidecar.client import SidecarClient
from bridge.sidecar.fleet import Fleet
from bridge.sidecar.health import HealthProbe
from bridge.sidecar.http import HttpConnection, request_bytes
from bridge.sidecar.protocol import execute_headers
from bridge.sidecar.result import Status
from bridge.sidecar.signature import Signer
from bridge.sidecar.stream_upgrade import open_stream
from bridge.sidecar.timeouts import Timeouts
from bridge.sidekiq.fetch.unit_of_work import Delivery
from tests.support.ledger import Ledger
from tests.support.processes import ROOT, Process, free_port
from tests.support.redis_server import RedisServer
from tests.support.ruby_root import RubyRoot
from tests.support.sidecar_process import JOBS
from tests.support.waiting import wait_for

SECRET = "a secret of these tests"
MAX_BODY = 100_000
many = settings(deadline=None, max_examples=100, suppress_health_check=list(HealthCheck))
ROUTES = "/jobs/execute /jobs/stream /jobs/h:1:a/1 /jobs/h:1:a/1/cancel /drain /health /metrics /"
PATHS = st.sampled_from(ROUTES.split()) | st.text(
    st.characters(min_codepoint=33, max_codepoint=126), max_size=20
).map(lambda text: "/" + text)
NAMES = """X-Bridge-Protocol X-Bridge-Boot X-Bridge-Delivery X-Bridge-Claimed-At X-Bridge-Wait-Ms
    X-Bridge-Recovered X-Bridge-Queue X-Bridge-Signature X-Bridge-Timestamp X-Bridge-Nonce Content-Length
    Transfer-Encoding Connection Upgrade Expect Host"""
WORDS = st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=40)
FRAMES = [
    b"E 1 99999999999 h 1 1 0 q\n",
    b"E 1 -1 h 1 1 0 q\n",
    b"E\n",
    b"P x y\n",
    b"\n" * 50,
    b"E 1 2 h 1 1 0 q\n{}",
    b"E 1 5 h 1 1 0 q\n{}",
    b"E 1 2 h 1 soon many q\n{}",
    b"E 1 2 \xff 1 1 0 %zz\n{}",
    b"x" * 9000,
]
VALUES = WORDS | st.sampled_from(["1", "0", "-1", "chunked", "99999999999", "Upgrade", "100-continue"])
HEADERS = st.lists(st.tuples(st.sampled_from(NAMES.split()), VALUES), max_size=6)


@dataclass
class Target:
    """A sidecar on TCP, with a secret."""

    port: int
    process: Process
    ledger: Ledger
    signer: Signer
    client: SidecarClient
    token: int = 0

    def send(self, raw: bytes, *, close_writing: bool = True) -> bytes:
        """What it answers before it closes, or within a moment."""
        answer = b""
        with socket.create_connection(("127.0.0.1", self.port), 5) as sock, contextlib.suppress(OSError):
            sock.sendall(raw)
            if close_writing:
                sock.shutdown(socket.SHUT_WR)
            sock.settimeout(0.3 if not close_writing else 5)
            while chunk := sock.recv(65536):
                answer += chunk
                if b"\r\n\r\n" in answer and not close_writing:
                    break
        return answer

    def delivery(self, payload: bytes) -> Delivery:
        self.token += 1
        return Delivery("host:1:abcdefabcdef", self.token, "default", payload, int(time.time() * 1000))

    def assert_well(self) -> None:
        jid = f"{time.time_ns():024x}"
        payload = b'{"class":"EchoJob","args":[],"jid":"%s"}' % jid.encode()
        assert self.client.execute(self.delivery(payload)).status is Status.DONE
        assert self.ledger.count("done", jid) == 1
        assert self.process.is_alive


@pytest.fixture(scope="module")
def target(redis_server: RedisServer, ruby_root: RubyRoot) -> Iterator[Target]:
    place = ruby_root.make_directory()
    port = free_port()
    env = {
        "BRIDGE_SIDECAR_SECRET": SECRET,
        "REDIS_URL": redis_server.url_of(13),
        "TEST_LEDGER": str(place.path / "ledger"),
        "HOME": "/tmp",
    }
    command = ["env", "-C", ROOT, "ruby", ROOT / "sidecar/bin/sidecar", "--require", JOBS, "--threads", "5"]
    command += ["--bind", f"tcp://127.0.0.1:{port}", "--max-body", str(MAX_BODY)]
    process = Process("target", ruby_root.command(*command), place.path, env=env)
    try:
        signer = Signer(SECRET.encode())
        address = Address.parse(f"http://127.0.0.1:{port}")
        fleet = Fleet([address], HealthProbe(signer, 5.0))
        client = SidecarClient(fleet, signer, Timeouts(full=5.0, repeat=5.0))
        process.wait_ready(lambda: _is_up(port), 40)
        yield Target(port, process, Ledger(place.path / "ledger"), signer, client)
    finally:
        process.stop()
        place.remove()


def _is_up(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def status_of(answer: bytes) -> int:
    """0 where it closed without a word."""
    return int(answer[9:12]) if answer.startswith(b"HTTP/1.1 ") else 0


@pytest.mark.short
@many
@given(st.sampled_from(["GET", "POST", "PUT", "HEAD", "BREW", ""]), PATHS, HEADERS, st.binary(max_size=200))
def test_an_unsigned_request_of_any_shape_runs_nothing(
    target: Target, method: str, path: str, headers: list[tuple[str, str]], body: bytes
) -> None:
    before = target.ledger.count("done")
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers)]
    answer = target.send("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body)

    assert status_of(answer) not in (500, 502)
    assert (
        status_of(answer) < 300 <= 599
        or b'"code"' in answer
        or status_of(answer) in (0, 400, 404, 405, 411, 413, 501)
    )
    assert target.ledger.count("done") == before


@pytest.mark.short
@many
@given(st.binary(max_size=300))
def test_bytes_that_are_no_request_are_refused(target: Target, raw: bytes) -> None:
    assert status_of(target.send(raw)) not in (500, 502)


@pytest.mark.short
def test_after_all_that_it_runs_jobs(target: Target) -> None:
    target.assert_well()


@pytest.mark.short
@many
@given(
    st.binary(max_size=60)
    | st.sampled_from([b"[" * 5000, b"{" * 99, b'{"class":"EchoJob","args":' + b"9" * 9000])
)
def test_a_signed_body_of_any_bytes_is_refused_or_run(target: Target, body: bytes) -> None:
    delivery = target.delivery(b"{}")
    headers = [*execute_headers(delivery), ("X-Bridge-Boot", boot_of(target)), ("X-Bridge-Protocol", "2")]
    signed = target.signer.sign("POST", "/jobs/execute", headers, body)
    answer = target.send(request_bytes("POST", "/jobs/execute", "x", signed, body), close_writing=False)

    assert status_of(answer) in (200, 400, 422), answer[:300]


def boot_of(target: Target) -> str:
    if not target.client.fleet.members:
        target.client.fleet.refresh()
    return target.client.fleet.members[0].worker.boot


@pytest.mark.short
@pytest.mark.parametrize("part", ["signature", "timestamp", "nonce", "body", "path", "header"])
def test_a_signed_request_that_was_changed_under_way_runs_nothing(target: Target, part: str) -> None:
    jid = f"{time.time_ns():024x}"
    body = b'{"class":"EchoJob","args":[],"jid":"%s"}' % jid.encode()
    headers = [
        *execute_headers(target.delivery(body)),
        ("X-Bridge-Boot", boot_of(target)),
        ("X-Bridge-Protocol", "2"),
    ]
    signed = dict(target.signer.sign("POST", "/jobs/execute", headers, body))
    path = "/jobs/execute"
    match part:
        case "signature":
            signed["X-Bridge-Signature"] = "v2=" + "0" * 64
        case "timestamp":
            signed["X-Bridge-Timestamp"] = str(int(signed["X-Bridge-Timestamp"]) - 30)
        case "nonce":
            signed["X-Bridge-Nonce"] = "0" * 32
        case "body":
            body = body.replace(b"[]", b"[1]")
        case "path":
            path = "/jobs/execute?x=1"
        case "header":
            signed["X-Bridge-Queue"] = "other"
    answer = target.send(request_bytes("POST", path, "x", list(signed.items()), body), close_writing=False)

    assert status_of(answer) in (401, 403)
    assert target.ledger.count("done", jid) == 0


@pytest.mark.short
@settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
@given(st.binary(max_size=80) | st.sampled_from(FRAMES))
def test_frames_of_any_bytes_end_the_stream_and_nothing_else(target: Target, frames: bytes) -> None:
    boot = boot_of(target)
    address = target.client.fleet.members[0].worker.address
    sock = open_stream(HttpConnection(address, 5.0, None), address.authority, boot, target.signer, 5.0).socket
    with sock, contextlib.suppress(OSError):
        sock.sendall(frames)
        sock.shutdown(socket.SHUT_WR)
        sock.settimeout(5)
        answers = b""
        while chunk := sock.recv(65536):
            answers += chunk
        assert b" 500 " not in answers


@pytest.mark.short
def test_after_every_kind_of_frame_it_runs_jobs(target: Target) -> None:
    target.assert_well()


def test_slow_and_huge_requests_hold_up_no_job(target: Target) -> None:
    process = psutil.Process(target.process.pid)
    resident = process.memory_info().rss
    slow = [socket.create_connection(("127.0.0.1", target.port), 5) for _ in range(100)]
    try:
        for sock in slow:
            sock.sendall(b"POST /jobs/execute HTTP/1.1\r\nHost: x\r\nContent-Le")
        for _ in range(5):
            target.assert_well()
            for sock in slow:
                with contextlib.suppress(OSError):
                    sock.sendall(b"n")
        huge = b"POST /jobs/execute HTTP/1.1\r\nHost: x\r\nContent-Length: 9000000000\r\n\r\n"
        # 400 is Puma 5, whose limit is ours.
        assert status_of(target.send(huge + b"x" * 1000, close_writing=False)) in (400, 401, 413)
        endless = b"POST /jobs/execute HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        for _ in range(5):
            target.send(endless + (b"100000\r\n" + b"x" * 1_048_576 + b"\r\n") * 20)
            target.assert_well()
    finally:
        for sock in slow:
            sock.close()
    wait_for(lambda: process.memory_info().rss < resident + 150 * 1024 * 1024, "memory to be bounded", 20)
    target.assert_well()
