"""Whoever reaches the sidecar's port without the secret gets nothing to run, and takes nothing down."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from bridge.sidecar.http import request_bytes
from bridge.sidecar.signature import Signer
from tests.support.ledger import Ledger
from tests.support.processes import ROOT, Process, free_port
from tests.support.waiting import wait_for

SECRET = b"the-shared-secret-of-this-test"
MAX_BODY = 100_000
SLOW_CLIENTS = 60

Headers = list[tuple[str, str]]


class Target:
    """A sidecar on TCP, and requests to it as an attacker can build them."""

    def __init__(self, directory: Path, redis_url: str) -> None:
        self.port = free_port()
        self.ledger = Ledger(directory / "ledger")
        jobs = ROOT / "tests/support/ruby/jobs.rb"
        command = ["ruby", ROOT / "sidecar/bin/sidecar", "--require", jobs, "--threads", "5"]
        command += ["--bind", f"tcp://127.0.0.1:{self.port}", "--max-body", str(MAX_BODY)]
        env = {"REDIS_URL": redis_url, "TEST_LEDGER": str(self.ledger.path)}
        self.process = Process(
            "sidecar", command, directory, env={**env, "BRIDGE_SIDECAR_SECRET": SECRET.decode()}
        )
        self.process.wait_ready(lambda: "ready on" in self.process.log, 40)
        self.boot = json.loads(self.send(self.signed("GET", "/health", []))[1])["boot"]

    def send(self, request: bytes, seconds: float = 10) -> tuple[int, bytes]:
        """Status and body of the answer; status 0 where the connection was closed without one."""
        with socket.create_connection(("127.0.0.1", self.port), seconds) as client:
            answer = b""
            with contextlib.suppress(OSError):  # it may be cut off while it still sends
                client.sendall(request)
            with contextlib.suppress(OSError):
                while chunk := client.recv(65536):
                    answer += chunk
        head, _, body = answer.partition(b"\r\n\r\n")
        return (int(head.split()[1]) if head else 0), body

    def signed(
        self, method: str, path: str, headers: Headers, body: bytes = b"", secret: bytes = SECRET
    ) -> bytes:
        lines = [("X-Bridge-Protocol", "2"), *headers]
        return self.request(method, path, Signer(secret).sign(method, path, lines, body), body)

    def request(self, method: str, path: str, headers: Headers, body: bytes = b"") -> bytes:
        return request_bytes(method, path, "localhost", [*headers, ("Connection", "close")], body)

    def job_headers(self, token: int) -> Headers:
        return [
            ("X-Bridge-Boot", self.boot),
            ("X-Bridge-Queue", "default"),
            ("X-Bridge-Delivery", f"attacker:1:aaaa/{token}"),
            ("X-Bridge-Claimed-At", str(int(time.time() * 1000))),
        ]


_tokens = iter(range(1, 1 << 30))


def payload(**fields: Any) -> bytes:
    return json.dumps({"class": "EchoJob", "args": ["x"], "jid": f"{next(_tokens):024x}", **fields}).encode()


@pytest.fixture(scope="module")
def target(redis_server: Any, ruby_root: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    if not ruby_root.is_system:
        pytest.skip("this sidecar runs on the system's Ruby")
    made = Target(tmp_path_factory.mktemp("attacks"), redis_server.url_of(14))
    yield made
    made.process.stop()


@pytest.fixture(autouse=True)
def nothing_ran(target: Target) -> Iterator[None]:
    """Whatever a test of this file tries, no job may have run, and the next good one must."""
    target.ledger.clear()
    yield
    ran = [line for line in target.ledger.lines if line["event"] in ("started", "done", "failed")]
    assert ran == []
    good = target.signed("POST", "/jobs/execute", target.job_headers(next(_tokens)), payload())
    status, body = target.send(good)
    assert (status, json.loads(body)["status"]) == (200, "done")
    assert target.process.is_alive


def code_of(answer: tuple[int, bytes]) -> tuple[int, str]:
    status, body = answer
    return status, json.loads(body)["code"]


DOORS = [
    ("POST", "/jobs/execute"), ("POST", "/jobs/stream"), ("GET", "/jobs/attacker:1:aaaa/1"),
    ("POST", "/jobs/attacker:1:aaaa/1/interrupt"), ("POST", "/jobs/attacker:1:aaaa/1/cancel"),
    ("POST", "/drain"), ("GET", "/health"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path"), DOORS)
@pytest.mark.parametrize("secret", [None, b"guessed", b"", SECRET[:-1], SECRET + b" "])
def test_no_door_opens_without_the_secret(
    target: Target, method: str, path: str, secret: bytes | None
) -> None:
    headers = target.job_headers(next(_tokens))
    if secret is None:
        request = target.request(method, path, [("X-Bridge-Protocol", "2"), *headers], payload())
    else:
        request = target.signed(method, path, headers, payload(), secret)
    status, code = code_of(target.send(request))
    assert (status, code) == (401, "unsigned" if secret is None else "signature")


def sign(target: Target, body: bytes, **changes: str) -> Headers:
    """The signed headers of a good request, some of them changed afterwards."""
    lines = [("X-Bridge-Protocol", "2"), *target.job_headers(next(_tokens))]
    signed = Signer(SECRET).sign("POST", "/jobs/execute", lines, body)
    return [(name, changes.get(name.removeprefix("X-Bridge-"), value)) for name, value in signed]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Queue", "critical"), ("Delivery", "attacker:1:aaaa/999"), ("Boot", "0" * 16),
        ("Claimed-At", "1"), ("Timestamp", "five seconds later"), ("Nonce", "a" * 32),
        ("Signature", "v2=" + "0" * 64),
    ],
)  # fmt: skip
def test_a_changed_header_breaks_the_signature(target: Target, name: str, value: str) -> None:
    body = payload()
    # Not in the parameter: a name that depends on the time differs between the processes that share a suite.
    value = str(int(time.time()) + 5) if name == "Timestamp" else value
    request = target.request("POST", "/jobs/execute", sign(target, body, **{name: value}), body)
    assert code_of(target.send(request)) == (401, "signature")


@pytest.mark.parametrize("extra", [("X-Bridge-Recovered", "1"), ("X-Bridge-New", "x")])
def test_an_added_header_breaks_the_signature(target: Target, extra: tuple[str, str]) -> None:
    body = payload()
    request = target.request("POST", "/jobs/execute", [*sign(target, body), extra], body)
    assert code_of(target.send(request)) == (401, "signature")


@pytest.mark.parametrize(
    "signature", ["", "v2=", "v0=" + "0" * 64, "V1=" + "0" * 64, "0" * 64, "v2=" + "g" * 64]
)
def test_a_signature_of_another_shape_is_none(target: Target, signature: str) -> None:
    body = payload()
    request = target.request("POST", "/jobs/execute", sign(target, body, Signature=signature), body)
    assert code_of(target.send(request)) == (401, "unsigned")


def test_a_changed_body_or_path_breaks_the_signature(target: Target) -> None:
    body = payload()
    tampered = target.request("POST", "/jobs/execute", sign(target, body), body.replace(b'"x"', b'"y"'))
    assert code_of(target.send(tampered)) == (401, "signature")
    elsewhere = target.request("POST", "/jobs/stream", sign(target, body), body)
    assert code_of(target.send(elsewhere)) == (401, "signature")


def test_a_recorded_request_is_worth_nothing_a_second_time(target: Target) -> None:
    recorded = target.signed("POST", "/drain", [("X-Bridge-Boot", "0" * 16)])
    assert target.send(recorded)[0] in (421, 400)  # it was signed right, but is for another process
    assert code_of(target.send(recorded)) == (403, "replay")


@pytest.mark.parametrize("seconds", [-61, -3600, 61, 3600])
def test_an_old_or_postdated_request_is_refused(
    target: Target, seconds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = time.time() + seconds
    monkeypatch.setattr("bridge.sidecar.signature.time.time", lambda: there)
    request = target.signed("POST", "/jobs/execute", target.job_headers(next(_tokens)), payload())
    monkeypatch.undo()
    assert code_of(target.send(request)) == (403, "timestamp")


def test_a_body_beyond_the_limit_is_not_taken(target: Target) -> None:
    large = payload(args=["x" * (MAX_BODY + 1)])
    request = target.signed("POST", "/jobs/execute", target.job_headers(next(_tokens)), large)
    assert code_of(target.send(request)) == (413, "too_large")
    announced = request.replace(f"Content-Length: {len(large)}".encode(), b"Content-Length: 9999999999")
    # Debian 13's Puma asks for the signature before it looks at the length.
    assert target.send(announced)[0] in (0, 400, 403, 413)


def test_a_body_without_end_is_cut_off(target: Target) -> None:
    head = b"POST /jobs/execute HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    with socket.create_connection(("127.0.0.1", target.port), 10) as client:
        client.sendall(head)
        with pytest.raises(OSError, match=r"(?i)reset|pipe|timed out|abort"):
            client.sendall(chunk * 2000)


@pytest.mark.timeout(120)
def test_slow_clients_hold_nobody_up_and_are_cut_off(target: Target) -> None:
    with contextlib.ExitStack() as stack:
        slow = [
            stack.enter_context(socket.create_connection(("127.0.0.1", target.port), 60))
            for _ in range(SLOW_CLIENTS)
        ]
        for number, client in enumerate(slow):
            halves = [b"POST /jobs/exe", b"POST /jobs/execute HTTP/1.1\r\nContent-Length: 500\r\n\r\nx"]
            client.sendall(halves[number % 2])
        started = time.monotonic()
        good = target.signed("GET", "/health", [("X-Bridge-Boot", target.boot)])
        assert target.send(good, 5)[0] == 200
        assert time.monotonic() - started < 5

        def ended() -> bool:
            for client in slow:
                with contextlib.suppress(OSError):
                    client.send(b"x")
            return all(_is_closed(client) for client in slow)

        wait_for(ended, "all slow clients to be cut off", 60)


def _is_closed(client: socket.socket) -> bool:
    client.setblocking(False)
    try:
        while client.recv(4096):
            pass
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


HOSTILE = [
    "Kernel", "Object", "BasicObject", "String", "File", "IO", "Process", "Ledger", "Sidekiq",
    "Sidekiq::Client", "Sidekiq::Web", "Struct", "Class", "Module", "Proc", "Thread", "Marshal",
    "Gem::Installer", "ERB", "JOB", "Listed", "Deeply", "Deeply::Nested", "EchoJob::File", "::Kernel",
    "Object::EchoJob", "::Object::EchoJob", "Object::Object::EchoJob", "EchoJob::Object::EchoJob",
    "Sidekiq::Object::EchoJob",
]  # fmt: skip
NOT_NAMES = [
    "system('x')",
    "echo_job",
    "EchoJob; exit",
    "../EchoJob",
    "EchoJob\x00",
    "",
    " EchoJob",
    "EchoJob\n",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_class_that_is_no_job_is_never_made(target: Target, name: str) -> None:
    body = payload(**{"class": name})
    answer = target.send(target.signed("POST", "/jobs/execute", target.job_headers(next(_tokens)), body))
    status = answer[0]
    assert status == 422 or json.loads(answer[1])["error"]["class"] == "NameError"


@pytest.mark.parametrize("name", NOT_NAMES)
def test_a_text_that_is_no_class_name_is_never_looked_up(target: Target, name: str) -> None:
    body = payload(**{"class": name, "retry": False})
    status, answer = target.send(
        target.signed("POST", "/jobs/execute", target.job_headers(next(_tokens)), body)
    )
    assert status == 422 or json.loads(answer)["error"]["class"] == "NameError"


def test_a_body_in_chunks_of_a_byte_costs_no_time(target: Target) -> None:
    """30 MB of them cost 12 s of CPU, whatever was signed."""
    body = payload()
    lines = [("X-Bridge-Protocol", "2"), *target.job_headers(next(_tokens))]
    signed = Signer(SECRET).sign("POST", "/jobs/execute", lines, body)
    head = [f"{name}: {value}" for name, value in [*signed, ("Transfer-Encoding", "chunked"), ("Host", "x")]]
    request = "\r\n".join(["POST /jobs/execute HTTP/1.1", *head, "", ""]).encode()
    before = cpu_seconds(target)
    status, _ = target.send(request + b"1\r\nx\r\n" * 1_000_000)
    assert status in (0, 400, 413)
    assert cpu_seconds(target) - before < 0.2


def cpu_seconds(target: Target) -> float:
    times = psutil.Process(target.process.pid).cpu_times()
    return times.user + times.system


def test_refused_requests_are_counted_for_an_alert(target: Target) -> None:
    def refused(code: str) -> int:
        page = target.send(target.request("GET", "/metrics", []))[1].decode()
        line = f'bridge_sidecar_requests_refused_total{{worker="0",code="{code}"}} '
        return int(page.partition(line)[2].split("\n")[0])

    before = refused("unsigned")
    target.send(target.request("POST", "/jobs/execute", [("X-Bridge-Protocol", "2")], payload()))
    assert refused("unsigned") == before + 1


def test_no_refusal_tells_of_the_secret_or_the_inside(target: Target) -> None:
    answers = [
        target.send(target.request("POST", "/jobs/execute", [("X-Bridge-Protocol", "2")], payload()))[1],
        target.send(target.signed("POST", "/jobs/execute", [], payload(), b"guessed"))[1],
        target.send(target.request("GET", "/../../etc/passwd", []))[1],
        target.send(b"GET / HTTP/9.9\r\n\r\n")[1],
    ]
    text = b"".join(answers) + target.process.log.encode()
    assert SECRET not in text
    assert b".rb" not in b"".join(answers)
