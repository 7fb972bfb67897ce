from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest

from bridge.event_loop import EventLoop
from bridge.sidecar.stream import PROBE_TIMEOUT_SECONDS, READ_SIZE, Stream
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


def test_replies_that_have_come_are_read_before_a_failed_send_cuts_the_stream(ends: Ends) -> None:
    """Jobs whose outcomes waited in the socket ran again: the worker sent one more while the sidecar left."""
    # Given a sidecar that has replied to a job and gone, before the worker has read
    stream, theirs, event_loop = ends
    told: list[tuple[int | None, bytes]] = []
    stream.send(delivery(1, b"{}"), lambda status, body: told.append((status, body)))
    event_loop.run_soon()
    theirs.sendall(b"1 200 2\n{}0 503 3\nbye")
    theirs.close()
    # When the worker sends the next job first
    stream.send(delivery(2, b"{}"), lambda status, body: told.append((status, body)))
    event_loop.run_soon()
    event_loop.wait(0)
    # Then the one has its outcome, and the other the farewell
    assert told == [(200, b"{}"), (503, b"bye")]
    assert stream.closed


def test_a_reply_before_the_connection_breaks_is_delivered(ends: Ends) -> None:
    # Given a reply as long as one read, and after it a reset: the worker's job was never read
    stream, theirs, event_loop = ends
    told: list[tuple[int | None, int]] = []
    stream.send(delivery(1, b"{}"), lambda status, body: told.append((status, len(body))))
    event_loop.run_soon()
    size = READ_SIZE - len(b"1 200 65524\n")
    theirs.sendall(b"1 200 %d\n" % size + b"x" * size)
    theirs.close()
    # When the worker reads
    event_loop.wait(1)
    # Then the job has its outcome
    assert told == [(200, size)]
    assert stream.closed


def test_a_worker_that_was_stopped_reads_before_it_calls_a_sidecar_silent(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a probe that was answered while the worker could not read
    stream, theirs, event_loop = ends
    stream.probe()
    event_loop.run_soon()
    theirs.sendall(b"1 200 0\n")
    # When the next probe is due much later
    later = time.monotonic() + 2 * PROBE_TIMEOUT_SECONDS
    monkeypatch.setattr(time, "monotonic", lambda: later)
    stream.probe()
    # Then the stream goes on
    assert not stream.closed
