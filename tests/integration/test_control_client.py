"""What could go wrong with ``requests`` between a worker and its sidecars, and does not."""

from __future__ import annotations

import contextlib
import gzip
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge import errors
from bridge.sidecar.address import Address
from bridge.sidecar.control_client import LARGEST_ANSWER, ControlClient
from bridge.sidecar.health import HealthProbe
from bridge.sidecar.messages import BadReply, Reply
from bridge.sidecar.protocol import path_of
from bridge.sidecar.signature import Signer
from bridge.sidekiq.fetch.unit_of_work import Delivery
from tests.faults.lying_sidecar import LIES
from tests.support.processes import ROOT
from tests.support.scripted_server import DELIVERY, SECRET, ScriptedServer, client_of, reply

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    made = ScriptedServer()
    yield made
    made.close()


@pytest.fixture
def probe() -> HealthProbe:
    return HealthProbe(Signer(SECRET), 2.0)


@contextlib.contextmanager
def answering(answer: Callable[[socket.socket], None], listener: socket.socket) -> Iterator[None]:
    """A server for one connection: ``answer`` writes what it likes once a request has come."""

    def serve() -> None:
        with contextlib.suppress(OSError):  # the client has seen enough
            client, _ = listener.accept()
            with client:
                client.recv(65536)
                answer(client)

    with listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield
    thread.join(5)


def ask(answer: Callable[[socket.socket], None], timeout_seconds: float = 2.0) -> Reply:
    """The reply to an unsigned probe that is answered so."""
    listener = socket.create_server(("127.0.0.1", 0))
    address = Address.parse(f"http://127.0.0.1:{listener.getsockname()[1]}")
    with answering(answer, listener), ControlClient(Signer(None), 2.0).conversation(address) as talk:
        return talk.ask("GET", "/health", None, timeout_seconds=timeout_seconds)


def drip(client: socket.socket, data: bytes) -> None:
    for byte in data:
        client.sendall(bytes([byte]))
        time.sleep(0.05)


# -- the environment and the other side have no say in where requests go


def test_proxies_and_passwords_of_the_environment_are_ignored(
    server: ScriptedServer, probe: HealthProbe, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A company's proxy would have read each request, and refused those to a loopback address."""
    # Given a proxy, certificates and a password for this host in the environment
    proxy = ScriptedServer()
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, proxy.url)
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "netrc").write_text(
        "machine 127.0.0.1 login me password secret\ndefault login a password b\n"
    )
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere")

    # When the sidecar is asked and told
    assert probe.ask(Address.parse(server.url)).ready
    server.answers[:] = [reply(202)]
    client = client_of(server)
    client.fleet.refresh()
    client.interrupt(DELIVERY)
    proxy.close()

    # Then it is asked directly, without a password
    assert (len(proxy.probes), len(proxy.requests), len(server.requests)) == (0, 0, 1)
    assert all(b"authorization" not in asked.lower() for asked in server.probes + server.requests)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(server: ScriptedServer, probe: HealthProbe, status: int) -> None:
    """A signed request must not reach an address that a sidecar chose."""
    elsewhere = ScriptedServer()
    server._answer = lambda request: reply(status, {}, f"Location: {elsewhere.url}/health\r\n")  # type: ignore[method-assign]

    with pytest.raises(errors.SidecarUnavailable, match=f"answered {status}"):
        probe.ask(Address.parse(server.url))

    elsewhere.close()
    assert elsewhere.probes == []


def test_cookies_are_not_kept(server: ScriptedServer, probe: HealthProbe) -> None:
    server.misdirected, server.misdirection = 1, "Set-Cookie: a=b; Path=/\r\n"

    assert probe.ask(Address.parse(server.url)).ready

    assert len(server.probes) == 2
    assert all(b"cookie" not in asked.lower() for asked in server.probes)


# -- whatever comes back costs bounded time and memory


def test_an_oversized_reply_is_refused() -> None:
    with pytest.raises(BadReply, match="larger than"):
        ask(lambda client: client.sendall(reply(200, "x" * (LARGEST_ANSWER + 1))))


def test_a_head_without_end_is_refused() -> None:
    def endless(client: socket.socket) -> None:
        client.sendall(b"HTTP/1.1 200 OK\r\n")
        while True:
            client.sendall(b"X-Filler: %s\r\n" % (b"x" * 60_000))

    with pytest.raises((BadReply, OSError)):
        ask(endless)


def test_an_oversized_line_before_a_chunk_is_refused() -> None:
    """The library reads that line whole, however long it is."""

    def endless(client: socket.socket) -> None:
        client.sendall(CHUNKED)
        while True:
            client.sendall(b"1" * 65536)

    with pytest.raises(BadReply, match=r"too large|exceeded maximum"):
        ask(endless)


def test_a_reply_in_chunks_of_a_byte_is_refused() -> None:
    with pytest.raises(BadReply, match="chunks of a few bytes"):
        ask(lambda client: client.sendall(CHUNKED + b"1\r\nx\r\n" * 100_000))


@pytest.mark.parametrize("status", [200, 302])
def test_a_compressed_reply_stays_compressed(status: int) -> None:
    """The library makes 50 MB of 50 kB. It did so with a redirect even where none is to be followed."""
    bomb = gzip.compress(b"\0" * 50_000_000)
    head = b"HTTP/1.1 %d X\r\nContent-Encoding: gzip\r\nLocation: /\r\n" % status
    head += b"Content-Length: %d\r\n\r\n" % len(bomb)

    assert ask(lambda client: client.sendall(head + bomb)).body == bomb


@pytest.mark.parametrize("head", [b"", b"HTTP/1.1 200 OK\r\nX-A: ", CHUNKED, reply(200)[:-2] + b"X-B: "])
def test_a_slow_drip_ends_by_the_deadline(head: bytes) -> None:
    """The library's time-out begins again with each byte."""
    begun = time.monotonic()

    with pytest.raises((TimeoutError, BadReply)):
        ask(lambda client: (client.sendall(head), drip(client, b"1" * 200))[1], timeout_seconds=0.4)

    assert time.monotonic() - begun < 2.0


@pytest.mark.parametrize(
    "cut", [b'HTTP/1.1 200 OK\r\n\r\n{"protocol":2}', b"HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\n{}"]
)
def test_a_reply_that_may_have_been_cut_is_refused(cut: bytes) -> None:
    with pytest.raises((BadReply, OSError)):
        ask(lambda client: client.sendall(cut))


@settings(deadline=None, max_examples=100)
@given(
    st.binary()
    | st.sampled_from([lie for lie in LIES.values() if lie]).flatmap(
        lambda lie: st.integers(0, len(lie)).map(lambda end: lie[:end])
    )
    | st.binary(max_size=60).map(lambda tail: CHUNKED + tail)
    | st.binary(max_size=60).map(lambda tail: b"HTTP/1.1 200 OK\r\n" + tail)
    | st.integers(-9, 9).map(lambda size: CHUNKED + b"%d\r\nabcdefghi\r\n0\r\n\r\n" % size)
)
def test_whatever_a_connection_answers_is_a_reply_or_a_bad_one(sent: bytes) -> None:
    with contextlib.suppress(OSError, BadReply):
        assert isinstance(ask(lambda client: client.sendall(sent)), Reply)


# -- addresses and paths


@pytest.mark.parametrize(
    "name", ["a b.sock", "50%20%.sock", "q?x=1#y.sock", "über[1]@:&.sock", "a..b%2F.sock"]
)
def test_a_unix_socket_whose_path_has_special_characters(tmp_path: Path, name: str) -> None:
    """The path is never part of a URL, which would change it."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / name))
    listener.listen()
    address = Address("unix", path=str(tmp_path / name))

    with answering(lambda client: client.sendall(reply(200, {})), listener):  # noqa: SIM117
        with ControlClient(Signer(None), 2.0).conversation(address) as talk:
            assert talk.ask("GET", "/health", None, timeout_seconds=2.0).body == b"{}"


@pytest.mark.parametrize(
    "identity", ["host:1:abc", "my host:1:a", "über%2F:1:a", "a~b*c(d)[e]:1:%41", "..:1:a"]
)
def test_the_path_on_the_wire_is_the_signed_one(server: ScriptedServer, identity: str) -> None:
    """The library normalises URLs. A changed path has another signature, and the sidecar refuses it."""
    delivery = Delivery(identity, 7, "default", DELIVERY.payload, 5)
    client = client_of(server)
    client.fleet.refresh()
    server.answers[:] = [reply(202)]

    client.cancel(delivery, "revoked", "enough")

    [request] = server.requests
    assert request.startswith(f"POST {path_of(delivery)}/cancel HTTP/1.1\r\n".encode())


def test_a_boot_id_cannot_begin_a_header(server: ScriptedServer) -> None:
    with ControlClient(Signer(SECRET), 2.0).conversation(Address.parse(server.url)) as talk:
        for boot in ("b1\r\nX-Bridge-Other: 1", "b\n", "\udc80"):
            with pytest.raises(errors.SidecarUnavailable, match="no request was sent"):
                talk.ask("GET", "/health", boot, timeout_seconds=1.0)
    assert server.probes == []


# -- processes and threads


def test_threads_share_a_client_and_no_connection(server: ScriptedServer, probe: HealthProbe) -> None:
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: probe.ask(Address.parse(server.url)).ready, range(80)))

    assert all(found)
    assert len(server.clients) == 80


@pytest.mark.parametrize(
    "code",
    [
        "import bridge.sidekiq.lease.keeper_main",
        "from bridge import app; app.bridge.sidecar; app.bridge.breaker; app.bridge.breaker.round()",
    ],
)
def test_a_process_that_reaches_no_sidecar_does_not_import_requests(code: str, tmp_path: Path) -> None:
    """It costs 40 ms of a start, and memory."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "BRIDGE_SIDECAR_URL": f"unix://{tmp_path}/none.sock"}
    after = f"{code}\nimport sys\nprint('requests' in sys.modules, 'urllib3' in sys.modules)"

    found = subprocess.run(
        [sys.executable, "-c", after], env=env, cwd=tmp_path, capture_output=True, text=True
    )

    assert found.stdout.strip().splitlines()[-1:] == ["False False"], found.stderr
