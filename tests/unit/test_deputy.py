"""A thread of the pool that waits for jobs in place of the consumer's thread: the deputy."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from bridge.concurrency.threads import NativeThreads
from bridge.event_loop import DISTRUST, SharedSockets
from tests.support.event_loops import sharing
from tests.support.waiting import wait_for


class Consumer:
    """A consumer's thread whose loop waits, and a pool with one thread that may wait."""

    def __init__(self, limit: int = 2) -> None:
        self.readers: list[int] = []
        self.runners: list[int] = []
        self.messages: list[bytes] = []
        self.refuses = False
        """Whether the deputy can run nothing."""
        self.waits = 0
        """How often its loop has woken."""
        self.is_lent = False
        """Whether a thread waits for the sockets in place of the consumer's thread."""
        self._made = threading.Event()
        self._ends = False
        self._limit = limit
        self._thread = threading.Thread(target=self._loop, daemon=True)
        self._thread.start()
        assert self._made.wait(10)

    def _loop(self) -> None:
        self.event_loop, self.shared = sharing()
        self.shared.lend = self._lend  # type: ignore[method-assign]
        self.pool = NativeThreads(self._limit, self.shared)
        self.reader, self.writer = socket.socketpair()
        self.shared.watch(self.reader, self.read)
        self._made.set()
        while not self._ends:
            self.event_loop.wait(60.0)  # longer than a test: nothing is found by luck
            self.waits += 1
        self.shared.unwatch(self.reader)
        self.event_loop.close()

    def read(self) -> None:
        """The thread that waits for the socket calls this: each message is a run."""
        me = threading.get_ident()
        self.readers.append(me)
        for message in self.reader.recv(65_536):
            self.messages.append(bytes([message]))
            if me != self.owner and self.refuses:
                self.shared.trust = DISTRUST
                self.event_loop.call_soon(lambda: self.pool.submit(self.run))
            else:
                self.pool.submit(self.run)

    def run(self) -> None:
        self.runners.append(threading.get_ident())

    @property
    def owner(self) -> int:
        assert self._thread.ident is not None
        return self._thread.ident

    def push(self) -> None:
        self.writer.send(b"j")

    def in_loop(self, call: Callable[[], object]) -> None:
        """Call this in the consumer's thread, and wait for its end."""
        done = threading.Event()
        self.event_loop.call_soon(lambda: [each() for each in (call, done.set)])
        assert done.wait(10)

    def falls_asleep(self) -> int:
        """Wait until the owner sleeps for the first time. Returns how often it has woken: never.

        After a call ``in_loop`` it only looks: it is about to wake, and to sleep again.
        """
        assert not self.waits
        wait_for(lambda: not self.shared.is_owner_awake, "the owner to sleep")
        return self.waits

    def has_deputy(self) -> None:
        """Wait until a thread waits: before the sockets are lent, the owner reads what comes."""
        wait_for(lambda: self.is_lent, "a thread to wait")

    def _lend(self, to_deputy: bool) -> None:
        self.is_lent = False
        SharedSockets.lend(self.shared, to_deputy)
        self.is_lent = to_deputy

    def close(self) -> None:
        self.pool.stop()
        self._ends = True
        self.event_loop.wake()
        self._thread.join(10)
        self.writer.close()
        self.reader.close()


@pytest.fixture
def consumer() -> Iterator[Consumer]:
    made = Consumer()
    yield made
    made.close()


def ran(consumer: Consumer, count: int) -> None:
    wait_for(lambda: len(consumer.runners) == count, f"{count} runs")


def test_the_thread_that_reads_a_job_runs_it(consumer: Consumer) -> None:
    # Given a thread that has run a job, and waits in place of the consumer's thread
    consumer.pool.submit(consumer.run)
    consumer.has_deputy()
    # When jobs come, one after the other
    for number in range(2, 12):
        consumer.push()
        ran(consumer, number)
        consumer.has_deputy()
    # Then that thread has read and run each of them
    assert set(consumer.readers) == set(consumer.runners) == {consumer.runners[0]}
    assert consumer.owner not in consumer.readers


def test_the_first_job_is_read_by_the_consumers_thread(consumer: Consumer) -> None:
    consumer.push()
    ran(consumer, 1)
    assert consumer.readers == [consumer.owner]
    assert consumer.owner not in consumer.runners


def test_jobs_that_come_while_the_deputy_runs_one_are_read_by_the_consumers_thread(
    consumer: Consumer,
) -> None:
    # Given a deputy whose job goes on
    go, began = threading.Event(), threading.Event()
    consumer.pool.submit(consumer.run)
    consumer.has_deputy()
    once = consumer.run

    def go_on() -> None:
        began.set()
        assert go.wait(10)
        once()

    consumer.run = go_on  # type: ignore[method-assign]
    consumer.push()
    assert began.wait(10)
    consumer.run = once  # type: ignore[method-assign]
    # When the next one comes
    consumer.push()
    # Then it does not wait for the first
    ran(consumer, 2)
    assert consumer.readers[-1] == consumer.owner
    go.set()
    ran(consumer, 3)


def test_a_job_from_elsewhere_calls_a_deputy_where_no_other_thread_is_left() -> None:
    consumer = Consumer(limit=1)
    try:
        for number in range(1, 6):
            consumer.pool.submit(consumer.run)
            ran(consumer, number)
            consumer.has_deputy()
        assert consumer.pool.count == 1
    finally:
        consumer.close()


def test_a_deputy_that_meets_a_job_of_another_kind_leaves_the_next_ones_to_the_consumers_thread(
    consumer: Consumer,
) -> None:
    consumer.pool.submit(consumer.run)
    consumer.has_deputy()
    consumer.refuses = True
    consumer.push()
    ran(consumer, 2)
    # The consumer's thread handed it over, and the pool's thread does not wait now.
    consumer.push()
    ran(consumer, 3)
    assert consumer.readers[-1] == consumer.owner


def test_each_of_many_jobs_is_read_and_run_once(consumer: Consumer) -> None:
    # Given jobs that come from outside, and others that the consumer submits itself, at any moment
    for number in range(300):
        consumer.push()
        if number % 7 == 0:
            consumer.in_loop(lambda: consumer.pool.submit(consumer.run))
        if number % 50 == 0:
            consumer.has_deputy()
    ran(consumer, 300 + 43)
    assert len(consumer.messages) == 300
    wait_for(lambda: consumer.pool.busy == 0, "all runs to end")


def test_a_socket_that_is_closed_while_the_deputy_waits_for_its_turn_is_not_read(
    consumer: Consumer,
) -> None:
    # Given a deputy that has woken for a socket, while the consumer's thread is at work
    consumer.pool.submit(consumer.run)
    consumer.has_deputy()
    other, far = socket.socketpair()
    consumer.in_loop(lambda: None)

    def drop() -> None:
        consumer.push()
        time.sleep(0.05)  # the deputy wakes, and cannot have the turn before this ends
        # When the socket is dropped, and another gets its place
        consumer.shared.unwatch(consumer.reader)
        number = consumer.reader.fileno()
        consumer.reader.recv(10)
        assert other.fileno() != number
        consumer.shared.watch(other, consumer.read)

    consumer.in_loop(drop)
    # Then the deputy reads neither
    consumer.in_loop(lambda: None)
    assert consumer.readers == []
    consumer.in_loop(lambda: consumer.shared.unwatch(other))
    consumer.in_loop(lambda: consumer.shared.watch(consumer.reader, consumer.read))
    consumer.push()
    ran(consumer, 2)
    far.close()
    other.close()


def test_a_socket_that_the_owner_has_read_is_not_read_by_the_deputy(consumer: Consumer) -> None:
    """A thread that waited after another one found a job that the consumer's thread then read.

    It waited for bytes that did not come, and had the turn: the worker stood still.
    """
    # Given a deputy that has woken for a socket, while the consumer's thread is at work
    consumer.pool.submit(consumer.run)
    consumer.has_deputy()

    def take_back() -> None:
        consumer.push()
        time.sleep(0.05)  # the deputy wakes, and cannot have the turn before this ends
        # When the owner reads it, as it saw the moment between two deputies
        consumer.reader.recv(10)

    consumer.in_loop(take_back)
    # Then the deputy does not read it: it would keep the turn, and the loop could not go on
    for _ in range(100):
        consumer.in_loop(lambda: None)
    assert consumer.readers == []
    consumer.push()
    ran(consumer, 2)


def test_a_job_that_comes_while_a_deputy_comes_or_goes_is_read(consumer: Consumer) -> None:
    """The owner lent what was lent, or slept with sockets that a deputy had left: the job lay there."""
    consumer.pool.submit(consumer.run)
    for number in range(2, 302):
        # Given a thread that ends a run, and comes to wait, while a job comes
        consumer.push()
        if number % 3 == 0:
            consumer.pool.submit(consumer.run)
        # Then it is read, at once or as soon as nobody waits in place of the owner
        ran(consumer, number + number // 3)


def test_what_ends_right_before_the_owner_sleeps_is_seen() -> None:
    """The owner still had the turn, so the thread that had ended a run woke nobody. The owner then slept."""
    # Given an owner that is awake, and a thread that has ended a run and trusts it to look
    event_loop, shared = sharing()
    assert shared.is_owner_awake
    shared.ended = ["a run"]
    # When the owner waits, then it looks again at once
    began = time.monotonic()
    event_loop.wait(5.0)
    assert time.monotonic() - began < 4.0
    event_loop.close()


def test_a_thread_that_ends_a_run_settles_it_and_goes_on_with_what_it_claims(consumer: Consumer) -> None:
    # Given a consumer that sleeps, whose queue holds nine more jobs
    waiting, turners, needed = [consumer.run] * 9, [], []

    def turn() -> bool:
        turners.append(threading.get_ident())
        if waiting:
            consumer.pool.submit(waiting.pop())
        return bool(needed)

    consumer.shared.after_run = turn
    waits = consumer.falls_asleep()
    # When a job is pushed
    consumer.shared.trust = 1
    consumer.pool.submit(consumer.run)
    # Then one thread runs all of them, turns after each, and does not wake the owner
    ran(consumer, 10)
    consumer.has_deputy()
    assert set(turners) == set(consumer.runners) == {consumer.runners[0]}
    assert len(turners) == 10
    assert consumer.waits == waits
    # When a turn leaves something to the owner, then it wakes
    needed.append(True)
    consumer.pool.submit(consumer.run)
    wait_for(lambda: consumer.waits > waits, "the owner")


def test_a_thread_that_has_its_next_run_has_the_owner_settle_the_last(consumer: Consumer) -> None:
    """The next one may go on for hours."""
    # Given a pool with two runs and one thread, and a consumer that sleeps
    go, began = threading.Event(), threading.Event()
    consumer.pool.resize(1)
    turners: list[int] = []
    consumer.shared.after_run = lambda: bool(turners.append(1))
    consumer.pool.submit(lambda: began.set() or assert_set(go))
    assert began.wait(10)
    consumer.pool.submit(consumer.run)
    waits = consumer.falls_asleep()
    # When the first ends
    go.set()
    # Then the owner wakes, and the thread has no turn before the second has ended
    wait_for(lambda: consumer.waits > waits, "the owner")
    ran(consumer, 1)
    consumer.has_deputy()
    assert len(turners) <= 1


def assert_set(event: threading.Event) -> None:
    assert event.wait(10)


def test_a_socket_that_the_callback_of_another_drops_is_not_read(
    consumer: Consumer, caplog: pytest.LogCaptureFixture
) -> None:
    """The watches of two queues end in the same moment, and the first to be read drops the second.

    A worker that had become quiet did so. The deputy then looked for a callback that was gone and left its
    place for good. A new watch with the same descriptor would have been read without an answer.
    """
    # Given two sockets, of which the one that is read first drops the other, and gives another its descriptor
    pairs = [socket.socketpair() for _ in range(3)]
    (first, _), (second, _), (spare, _) = pairs
    reads: list[str] = []

    def dropped(reader: socket.socket, other: socket.socket) -> None:
        reads.append("read")
        reader.recv(10)
        number = other.fileno()
        consumer.shared.unwatch(other)
        os.dup2(spare.fileno(), number)
        consumer.shared.watch(other, lambda: reads.append("read too early"))

    def watch_both() -> None:
        consumer.shared.watch(first, lambda: dropped(first, second))
        consumer.shared.watch(second, lambda: dropped(second, first))

    consumer.in_loop(watch_both)
    consumer.pool.submit(consumer.run)
    consumer.has_deputy()

    # When both can be read at once
    def send_both() -> None:
        for _, far in pairs[:2]:
            far.send(b"j")
        time.sleep(0.05)  # the deputy wakes, and cannot have the turn before this ends

    consumer.in_loop(send_both)
    wait_for(lambda: reads, "a read")
    # Then the second is not read, and the deputy keeps its place
    consumer.push()
    ran(consumer, 2)
    assert reads == ["read"]
    assert "cannot wait for jobs" not in caplog.text
    assert consumer.shared.trust > 0
    consumer.in_loop(lambda: [consumer.shared.unwatch(each) for each in (first, second)])
    for pair in pairs:
        for each in pair:
            each.close()


def test_a_socket_that_was_closed_while_the_child_of_a_job_has_it_is_watched_no_more() -> None:
    """Redis cut a watch, and the client closed it, while a job waited for a process that it had forked.

    epoll went on to report the descriptor, as which the next watch was opened. The worker read that one, in
    vain and with the turn: it began no job until the time-out of the connection, 5 s later.
    """
    # Given a watched socket that a forked process has as well
    event_loop, shared = sharing()
    (first, far), (second, _) = pairs = socket.socketpair(), socket.socketpair()
    reads: list[str] = []
    shared.watch(first, lambda: reads.append("first"))
    inherited = first.dup()
    # When its link is cut, and its owner closes it before it ends the watch
    number = first.fileno()
    far.close()
    first.close()
    shared.unwatch(first)
    # And the next watched socket has its number
    os.dup2(second.fileno(), number)
    again = socket.socket(fileno=number)
    shared.watch(again, lambda: reads.append("second"))
    # Then nothing is read, and nothing wakes the owner
    event_loop.wait(0.0)
    assert reads == []
    assert event_loop._selector.select(0) == []
    # And the next one is read when it has something
    pairs[1][1].send(b"j")
    event_loop.wait(5.0)
    assert reads == ["second"]
    shared.unwatch(again)
    event_loop.close()
    for each in (inherited, again, second, pairs[1][1]):
        each.close()


def test_a_deputy_that_fails_leaves_its_place_for_good(
    consumer: Consumer, caplog: pytest.LogCaptureFixture
) -> None:
    consumer.pool.submit(consumer.run)
    consumer.has_deputy()

    def broken() -> None:
        if threading.get_ident() != consumer.owner:
            raise RuntimeError("broken")

    consumer.shared.after_read = broken
    consumer.push()
    ran(consumer, 2)
    wait_for(lambda: "cannot wait for jobs" in caplog.text, "the log line")
    for number in range(3, 8):
        consumer.push()
        ran(consumer, number)
    assert set(consumer.readers[1:]) == {consumer.owner}


def test_a_pool_that_stops_ends_its_deputy(consumer: Consumer) -> None:
    consumer.pool.submit(consumer.run)
    consumer.has_deputy()
    before = threading.active_count()
    consumer.pool.stop()
    wait_for(lambda: threading.active_count() == before - 1, "the thread to end")
