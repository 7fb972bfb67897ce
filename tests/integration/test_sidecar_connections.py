"""Connections to sidecars: those that are kept for the next job, and those of probes."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from bridge import errors
from bridge.sidecar import http
from bridge.sidecar.address import Address
from bridge.sidecar.client import SidecarClient
from bridge.sidecar.health import HealthProbe
from bridge.sidecar.result import Status
from bridge.sidecar.signature import Signer
from tests.support.forks import begin_in_fork, status_of
from tests.support.scripted_server import DELIVERY, DONE, ScriptedServer, client_of, reply
from tests.support.waiting import wait_for


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    made = ScriptedServer()
    yield made
    made.close()


@pytest.fixture
def client(server: ScriptedServer) -> SidecarClient:
    return client_of(server)


# -- connections that are kept


def jobs_clients(server: ScriptedServer) -> list[socket.socket]:
    """The connections over which something came, but for that of the probe, which is the first."""
    return server.clients[1:]


def test_jobs_follow_each_other_over_one_connection(server: ScriptedServer, client: SidecarClient) -> None:
    """The parser was asked too late whether it may be kept, and said no: each job had a TLS handshake."""
    server.answers[:] = [reply(200, DONE)] * 3
    for _ in range(3):
        assert client.execute(DELIVERY).status is Status.DONE

    assert len(jobs_clients(server)) == 1


def test_a_kept_connection_that_was_closed_meanwhile_costs_no_job_a_second_try(
    server: ScriptedServer, client: SidecarClient
) -> None:
    server.answers[:] = [reply(200, DONE)] * 2
    client.execute(DELIVERY)
    jobs_clients(server)[0].shutdown(socket.SHUT_RDWR)
    [member] = client.fleet.members
    wait_for(lambda: member.idle[0].stale, "its end to be seen")

    assert client.execute(DELIVERY).status is Status.DONE
    assert len(server.requests) == 2


def test_a_connection_that_rested_for_long_is_not_used_again(
    server: ScriptedServer, client: SidecarClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A firewall that has forgotten it tells nobody, and the job waited for the longest of all answers.
    server.answers[:] = [reply(200, DONE)] * 2
    client.execute(DELIVERY)
    monkeypatch.setattr(http, "REST_SECONDS", 0.0)
    client.execute(DELIVERY)

    assert len(jobs_clients(server)) == 2


@pytest.mark.parametrize("extra", ["Connection: close\r\n", "Connection: Close\r\n"])
def test_a_connection_that_will_be_closed_is_not_kept(
    server: ScriptedServer, client: SidecarClient, extra: str
) -> None:
    server.answers[:] = [reply(200, DONE, extra)] * 2
    client.execute(DELIVERY)
    client.execute(DELIVERY)

    assert len(jobs_clients(server)) == 2


def test_connections_that_rested_are_closed_when_another_is_put_back(
    server: ScriptedServer, client: SidecarClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one at the bottom rested for ever, and counted against the sidecar's limit of connections."""
    server.answers[:] = [reply(200, DONE), reply(202), reply(202)]
    client.execute(DELIVERY)
    ask_over_another_connection(client)
    [member] = client.fleet.members
    rested, used = member.idle
    rested._used_at -= http.REST_SECONDS + 1

    ask_over_another_connection(client)

    assert rested not in member.idle
    assert rested._socket.fileno() == -1
    assert len(member.idle) == 2
    assert member.idle[0] is used


def ask_over_another_connection(client: SidecarClient) -> None:
    """As the question does whether a Puma worker knows an orphaned job."""
    [member] = client.fleet.members
    client._ask_whether_known(member, DELIVERY)


def reply_in_pieces(*pieces: bytes) -> http.Reply:
    ours, theirs = socket.socketpair()
    connection = object.__new__(http.HttpConnection)
    connection._socket = ours
    with ours, theirs:
        threading.Thread(target=send_all, args=(theirs, pieces), daemon=True).start()
        return connection.exchange(b"GET / HTTP/1.1\r\n\r\n", 2.0)


def send_all(sock: socket.socket, pieces: tuple[bytes, ...]) -> None:
    with contextlib.suppress(OSError):  # the other side has seen enough
        for piece in pieces:
            sock.sendall(piece)


@pytest.mark.parametrize("status", [100, 102, 103])
def test_an_informational_reply_is_not_the_reply(status: int) -> None:
    """It was taken for the final one, which the next job over the connection then read as its own."""
    early = b"HTTP/1.1 %d X\r\nLink: early\r\n\r\n" % status

    found = reply_in_pieces(early, early, reply(200, DONE))

    assert (found.status, json.loads(found.body), found.keep_alive) == (200, DONE, True)
    assert b"link" not in found.headers


def test_a_change_of_protocol_that_nobody_asked_for_is_no_reply() -> None:
    with pytest.raises(http.BadReply, match="protocol was changed"):
        reply_in_pieces(b"HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")


@pytest.mark.parametrize("surplus", [reply(500, {"code": "a"}), b"HTTP/1.1 20", b"{}", b"\0"])
def test_a_reply_with_more_behind_it_is_no_reply(surplus: bytes) -> None:
    """Two of them were read as one: the status of the second, the body of both."""
    with pytest.raises(http.BadReply):
        reply_in_pieces(reply(200, DONE) + surplus)


def test_a_reply_in_chunks_of_a_byte_is_no_reply() -> None:
    """30 MB of them cost 12 s of CPU, as the parser calls back for each."""
    body = json.dumps(DONE).encode()
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    small = chunked + b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"
    assert reply_in_pieces(small).body == body

    began = time.process_time()
    with pytest.raises(http.BadReply, match="chunks of a few bytes"):
        reply_in_pieces(chunked + b"1\r\nx\r\n" * 1_000_000)
    assert time.process_time() - began < 0.5


def test_the_outcome_of_another_delivery_is_an_unknown_one_and_its_connection_is_not_kept(
    server: ScriptedServer, client: SidecarClient
) -> None:
    server.answers[:] = [reply(200, {**DONE, "delivery": "host:1:abc/6"}), reply(200, DONE)]

    with pytest.raises(errors.OutcomeUnknown, match="about another delivery"):
        client.execute(DELIVERY)

    assert client.execute(DELIVERY).status is Status.DONE
    assert len(jobs_clients(server)) == 2


def test_no_more_connections_are_kept_than_jobs_may_run_there(
    server: ScriptedServer, client: SidecarClient
) -> None:
    """Each question about an orphaned job has a connection of its own."""
    server.answers[:] = [reply(200, DONE), *[reply(204)] * 5]
    client.execute(DELIVERY)
    for _ in range(5):
        ask_over_another_connection(client)

    [member] = client.fleet.members
    assert len(member.idle) == member.worker.slots == 2


def test_a_forked_process_uses_none_of_its_parents_connections(
    server: ScriptedServer, client: SidecarClient
) -> None:
    server.answers[:] = [reply(200, DONE)] * 3
    client.execute(DELIVERY)

    child = begin_in_fork(lambda: client.execute(DELIVERY).status is not Status.DONE)
    assert status_of(child) == 0
    assert len(jobs_clients(server)) == 2
    assert client.execute(DELIVERY).status is Status.DONE
    assert len(jobs_clients(server)) == 2


# -- how a sidecar is asked how it is


@pytest.fixture
def probe() -> HealthProbe:
    return HealthProbe(Signer(b"secret"), 2.0)


def test_the_puma_worker_that_is_not_meant_says_who_it_is_and_is_asked_again_itself(
    server: ScriptedServer, probe: HealthProbe
) -> None:
    """Several listen on one address: a new connection may lead to any of them, a second request does not."""
    address = Address.parse(server.url)
    server.misdirected = 1
    assert probe.ask(address).ready
    assert len(server.clients) == 1
    assert [b"X-Bridge-Boot: b2b2" in asked for asked in server.probes] == [False, True]

    server.misdirected = 3
    with pytest.raises(errors.SidecarUnavailable, match="answered 421"):
        probe.ask(address)


def test_a_probe_that_was_misdirected_goes_on_over_a_new_connection_where_the_old_one_is_closed(
    server: ScriptedServer, probe: HealthProbe
) -> None:
    """It went on over the closed one, and a sidecar that was well was away."""
    server.misdirected, server.misdirection = 2, "Connection: close\r\n"

    assert probe.ask(Address.parse(server.url)).ready

    assert len(server.clients) == 3


def test_a_sidecar_that_is_silent_is_given_up_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = Address.parse(f"http://127.0.0.1:{silent.getsockname()[1]}")
        hasty = HealthProbe(Signer(None), 0.2)
        begun = time.monotonic()

        with pytest.raises(errors.SidecarUnavailable, match="timed out"):
            hasty.ask(address)
        assert time.monotonic() - begun < 1.0


def test_a_host_that_can_be_no_name_is_a_sidecar_that_is_away(probe: HealthProbe) -> None:
    with pytest.raises(errors.SidecarUnavailable, match="cannot be reached"):
        probe.ask(Address("http", "no..name", 1))


def test_a_probe_of_a_sidecar_that_is_away_costs_no_more_than_a_refused_connection(
    probe: HealthProbe,
) -> None:
    """requests took 400 us for it, five times a second: most of what an idle worker cost."""
    address = Address.parse("unix:///nowhere/sidecar.sock")
    begun = time.process_time()
    for _ in range(100):
        with pytest.raises(errors.SidecarUnavailable, match="No such file"):
            probe.ask(address)

    assert (time.process_time() - begun) / 100 < 0.0003
