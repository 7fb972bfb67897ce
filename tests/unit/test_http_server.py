from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from bridge.monitoring.health.server import MOST_CLIENTS, Reply, Server
from tests.support.waiting import wait_for


def broken(accept: str) -> Reply:
    raise RuntimeError("on purpose")


ROUTES = {
    "/well": lambda accept: Reply.of(True, {"a": 1}),
    "/ill": lambda accept: Reply.of(False, {"a": 1}),
    "/broken": broken,
}


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server(ROUTES)
    made.start("127.0.0.1", 0)
    yield made
    made.stop()


def get(server: Server, path: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}{path}", timeout=5) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def test_what_is_well_and_what_is_not(server: Server) -> None:
    assert get(server, "/well") == (200, b'{"a": 1}\n')
    assert get(server, "/well?verbose=1")[0] == 200
    assert get(server, "/ill")[0] == 503
    assert get(server, "/nothing")[0] == 404


def test_a_page_that_fails_is_an_error_and_not_the_end(server: Server) -> None:
    assert get(server, "/broken")[0] == 500
    assert get(server, "/well")[0] == 200


def test_a_taken_port_is_a_warning_and_the_next_one_is_used(caplog: pytest.LogCaptureFixture) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        other = Server(ROUTES)
        with caplog.at_level(logging.INFO):
            other.start("127.0.0.1", port)
        assert other.port is not None
        assert other.port > port
        assert get(other, "/well")[0] == 200
        assert f"port {port} is taken; using {other.port}" in caplog.text
        other.stop()


def test_an_address_of_another_machine_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    server = Server(ROUTES)
    server.start("192.0.2.1", 0)
    assert server.port is None
    assert "cannot listen on 192.0.2.1" in caplog.text


def test_those_who_say_nothing_do_not_keep_others_out_for_ever(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.monitoring.health.server.REQUEST_SECONDS", 0.2)
    silent = [socket.create_connection(("127.0.0.1", server.port or 0)) for _ in range(MOST_CLIENTS)]
    for each in silent:
        each.settimeout(5)
        assert each.recv(1) == b""
        each.close()
    assert get(server, "/well")[0] == 200


def test_dripping_clients_keep_no_probe_out(server: Server) -> None:
    """34 of them lost 43 of 52 probes: each byte gave its client five more seconds."""
    stop = threading.Event()
    drips = [threading.Thread(target=drip, args=(server.port, stop)) for _ in range(MOST_CLIENTS + 8)]
    for each in drips:
        each.start()
    try:
        wait_for(lambda: len(server._since) >= MOST_CLIENTS, "all places to be taken", 10)
        began = time.monotonic()
        answers = [get(server, "/well")[0] for _ in range(50)]
        assert answers == [200] * 50
        assert time.monotonic() - began < 10
    finally:
        stop.set()
        for each in drips:
            each.join()


def drip(port: int | None, stop: threading.Event) -> None:
    """One client after the other that never finishes its request."""
    while not stop.is_set():
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port or 0), 2) as client:
            client.sendall(b"GET /well HTTP/1.1\r\n")
            while not stop.wait(0.3):
                client.sendall(b"X")


def test_a_client_that_drips_is_cut_off_after_two_seconds(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port or 0)) as client:
        began = time.monotonic()
        with contextlib.suppress(OSError):
            while not stop_reading(client):
                client.sendall(b"X")
        assert 1 < time.monotonic() - began < 4


def stop_reading(client: socket.socket) -> bool:
    """Whether the other side has closed; waits a little."""
    client.settimeout(0.2)
    try:
        return client.recv(1) == b""
    except TimeoutError:
        return False


def test_an_accept_header_with_control_characters_is_refused_in_a_line(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_connection(("127.0.0.1", server.port or 0), 5) as client:
        client.sendall(b"GET /well HTTP/1.1\r\nAccept: text/plain;\r\n\tversion=1\r\n\r\n")
        assert client.recv(100).startswith(b"HTTP/1.0 406")
    assert not caplog.records


def test_a_stopped_server_frees_its_port(server: Server) -> None:
    port = server.port
    server.stop()
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port or 0)) != 0
