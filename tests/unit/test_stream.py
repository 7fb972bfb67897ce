from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from bridge.event_loop import EventLoop
from bridge.sidecar.stream import Stream
from bridge.sidecar.stream_upgrade import OpenStream
from bridge.sidekiq.fetch.unit_of_work import Delivery

Ends = tuple[Stream, socket.socket, EventLoop]


@pytest.fixture
def ends() -> Iterator[Ends]:
    ours, theirs = socket.socketpair()
    event_loop = EventLoop()
    stream = Stream(OpenStream(ours), event_loop, lambda: None)
    yield stream, theirs, event_loop
    stream.close()
    theirs.close()
    event_loop.close()


def delivery(token: int, payload: bytes) -> Delivery:
    return Delivery("host:1:abc", token, "low", payload, 5)


def test_a_cut_is_never_told_within_the_sending_of_a_job(ends: Ends) -> None:
    # A task that was told so from within itself resumed others on its own stack, and was never resumed.
    stream, theirs, event_loop = ends
    theirs.close()
    told: list[int | None] = []
    for token in range(3):
        stream.send(delivery(token, b"x" * 5000), lambda status, body: told.append(status))
        assert told == []
    for _ in range(3):
        event_loop.wait(0.1)
    assert told == [None, None, None]


def test_a_peer_that_reads_slowly_gets_every_byte_in_order(ends: Ends) -> None:
    stream, theirs, event_loop = ends
    payloads = [bytes([65 + token]) * 300_000 + b"\n" for token in range(4)]
    for token, payload in enumerate(payloads):
        stream.send(delivery(token, payload), lambda status, body: None)
    theirs.setblocking(False)
    received = bytearray()
    wanted = sum(map(len, payloads))
    for _ in range(100_000):
        event_loop.wait(0.01)
        try:
            received += theirs.recv(10_000)
        except BlockingIOError:
            continue
        if len(received) >= wanted and received.endswith(payloads[-1]):
            break
    assert [bytes(payload) in received for payload in payloads] == [True] * 4


def test_small_jobs_of_one_turn_go_out_together(ends: Ends) -> None:
    stream, theirs, event_loop = ends
    for token in range(3):
        stream.send(delivery(token, b"{}"), lambda status, body: None)
    theirs.setblocking(False)
    with pytest.raises(BlockingIOError):
        theirs.recv(10)
    event_loop.wait(0)
    assert theirs.recv(10_000).count(b"E ") == 3


def test_a_farewell_is_the_reply_to_each_job_without_one(ends: Ends) -> None:
    """Jobs that had been sent into a closing stream counted as lost, and a few deploys buried them."""
    stream, theirs, event_loop = ends
    told: list[tuple[int | None, bytes]] = []
    for token in range(3):
        stream.send(delivery(token, b"{}"), lambda status, body: told.append((status, body)))
    theirs.sendall(b"1 200 2\n{}0 503 3\nbye")
    event_loop.wait(0.1)
    assert told == [(200, b"{}"), (503, b"bye"), (503, b"bye")]
    assert stream.closed


def test_all_jobs_at_once_can_only_be_refused(ends: Ends) -> None:
    stream, theirs, event_loop = ends
    told: list[int | None] = []
    stream.send(delivery(1, b"{}"), lambda status, body: told.append(status))
    theirs.sendall(b"0 200 2\n{}")
    event_loop.wait(0.1)
    assert told == [None]
