from __future__ import annotations

import os
import signal
import socket
import threading
import time
from typing import Any

import pytest

from bridge import celery_settings
from bridge.errors import ConfigurationError
from bridge.event_loop import EventLoop
from bridge.sidekiq.fetch.unanswered_claims import LOOK_AGAIN_SECONDS, UnansweredClaims
from bridge.worker import preflight


@pytest.fixture
def event_loop() -> Any:
    made = EventLoop()
    yield made
    made.close()


def elsewhere(call: Any) -> None:
    """Call this in another thread, and wait for its end."""
    thread = threading.Thread(target=call)
    thread.start()
    thread.join()


def ends(event_loop: EventLoop) -> bool:
    """Whether something ends a wait before its time."""
    began = time.monotonic()
    event_loop.wait(5.0)
    return time.monotonic() - began < 4.0


def is_silent(event_loop: EventLoop) -> bool:
    """Whether nothing ends a short wait before its time."""
    began = time.monotonic()
    event_loop.wait(0.05)
    return time.monotonic() - began >= 0.05


# -- the event loop


def test_a_wake_up_before_the_wait_is_not_lost(event_loop: EventLoop) -> None:
    elsewhere(event_loop.wake)
    assert ends(event_loop)


def test_a_wake_up_while_the_last_one_is_read_leaves_the_next_ones_heard(event_loop: EventLoop) -> None:
    """Its byte was eaten while the flag stayed up: from then on no wake-up was written at all."""

    class Reader:
        def __init__(self, real: socket.socket) -> None:
            self.real, self.first = real, True

        def recv(self, size: int) -> bytes:
            if self.first:
                self.first = False
                elsewhere(event_loop.wake)
            return self.real.recv(size)

        def close(self) -> None:
            self.real.close()

    elsewhere(event_loop.wake)
    event_loop._reader = Reader(event_loop._reader)  # type: ignore[assignment]
    assert ends(event_loop)
    elsewhere(event_loop.wake)
    assert ends(event_loop)


def test_a_thousand_wake_ups_are_one(event_loop: EventLoop) -> None:
    elsewhere(lambda: [event_loop.wake() for _ in range(1000)])
    assert ends(event_loop)
    assert is_silent(event_loop)


def test_a_socket_and_its_successor_under_the_same_number_are_both_heard(event_loop: EventLoop) -> None:
    heard: list[int] = []
    for number in range(3):
        here, there = socket.socketpair()
        event_loop.watch(here, lambda number=number: heard.append(number))
        there.send(b"x")
        event_loop.wait(5.0)
        event_loop.unwatch(here)
        here.close()
        there.close()
    assert heard == [0, 1, 2]


def test_unwatching_what_is_closed_or_unknown_is_fine(event_loop: EventLoop) -> None:
    here, there = socket.socketpair()
    event_loop.unwatch(here)
    event_loop.watch(here, lambda: None)
    here.close()
    event_loop.unwatch(here)
    event_loop.unwatch(None)
    there.close()
    assert is_silent(event_loop)


def test_a_socket_that_is_closed_while_a_forked_child_has_it_wakes_the_loop_no_more(
    event_loop: EventLoop,
) -> None:
    """Redis cut the broadcasts while a job waited for a process that it had forked: no wait ended in time.

    The worker used a whole core until that process ended.
    """
    here, there = socket.socketpair()
    event_loop.watch(here, lambda: None)
    child = os.fork()
    if not child:
        signal.pause()  # it has every descriptor
    try:
        there.shutdown(socket.SHUT_RDWR)
        here.close()
        event_loop.unwatch(here)
        assert is_silent(event_loop)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        there.close()


def test_a_watched_socket_whose_loop_is_closed_leaves_no_descriptor() -> None:
    before = len(os.listdir("/proc/self/fd"))
    made = EventLoop()
    here, there = socket.socketpair()
    for _ in range(3):
        made.watch(here, lambda: None)
    made.close()
    here.close()
    there.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_rest_leaves_what_came_over_a_socket_for_the_wait_that_follows(event_loop: EventLoop) -> None:
    here, there = socket.socketpair()
    read: list[bytes] = []
    event_loop.watch(here, lambda: read.append(here.recv(10)))
    there.send(b"reply")

    event_loop.linger(0.01)
    resting = list(read)
    event_loop.wait(5.0)

    assert (resting, read) == ([], [b"reply"])


@pytest.mark.parametrize("ring", ["wake", "interrupt"])
def test_a_rest_ends_with_a_wake_up_and_leaves_it_to_be_heard(event_loop: EventLoop, ring: str) -> None:
    elsewhere(getattr(event_loop, ring))
    began = time.monotonic()

    event_loop.linger(60.0)

    assert time.monotonic() - began < 30.0
    assert ends(event_loop)


def test_a_rest_does_not_keep_the_second_half_of_a_job_from_the_sidecar(event_loop: EventLoop) -> None:
    """A large job goes out in pieces: a rest before each made it twenty times as slow."""
    here, there = socket.socketpair()
    event_loop.watch(here, lambda: None, lambda: None)
    began = time.monotonic()

    event_loop.linger(60.0)

    assert time.monotonic() - began < 30.0
    event_loop.watch(here, lambda: None)
    event_loop.linger(0.01)
    assert time.monotonic() - began >= 0.01
    there.close()


def test_one_that_is_busy_itself_has_no_rest(event_loop: EventLoop) -> None:
    event_loop.wait(0.0)
    event_loop._awake_since -= 31.0
    began = time.monotonic()

    event_loop.linger(60.0)

    assert time.monotonic() - began < 30.0


def test_a_loop_does_not_linger_while_something_is_to_be_called(event_loop: EventLoop) -> None:
    called: list[str] = []
    began = time.monotonic()

    event_loop.call_soon(lambda: called.append("soon"))
    event_loop.linger(60.0)

    assert time.monotonic() - began < 30.0
    assert called == []


def test_a_signal_handler_ends_the_wait_of_its_own_thread(event_loop: EventLoop) -> None:
    before = signal.signal(signal.SIGALRM, lambda *_: event_loop.interrupt())
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        started = time.monotonic()
        assert event_loop.wait(5.0)
        assert time.monotonic() - started < 2
        assert not event_loop.wait(0.0), "an interrupt is told of once"
    finally:
        signal.signal(signal.SIGALRM, before)


# -- unanswered claims


def test_tokens_are_looked_for_until_they_are_answered_or_fenced() -> None:
    now = 100.0
    unanswered = UnansweredClaims(clock=lambda: now)
    unanswered.tokens.update((1, 2, 3))
    assert unanswered.due
    unanswered.tokens.difference_update((1, 2))
    assert [token in unanswered for token in (1, 2, 3)] == [False, False, True]
    unanswered.looked()
    assert 3 not in unanswered
    assert not unanswered.due


def test_after_a_cut_connection_redis_is_asked_twice() -> None:
    now = 100.0
    unanswered = UnansweredClaims(clock=lambda: now)
    unanswered.look_now()
    unanswered.look_soon()
    unanswered.looked()
    assert not unanswered.due
    now += LOOK_AGAIN_SECONDS
    assert unanswered.due
    unanswered.looked()
    now += LOOK_AGAIN_SECONDS
    assert not unanswered.due


# -- the guard


class FakeApp:
    """Settings, and a connection of some transport."""

    def __init__(self, **changed: Any) -> None:
        known = {name: value for name, value in vars(celery_settings).items() if not name.startswith("_")}
        self.conf = type("Conf", (dict,), {"__getattr__": dict.__getitem__})({**known, **changed})
        self.user_settings = type(
            "UserSettings", (), {"place": lambda _, name: "in app.conf" if name in changed else None}
        )()

    def connection_for_read(self) -> Any:
        return type("Connection", (), {"transport": object()})()


@pytest.mark.parametrize(
    ("name", "value"),
    [("task_acks_late", False), ("worker_prefetch_multiplier", 4), ("task_serializer", "pickle")],
)
def test_a_setting_that_breaks_a_promise_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"{name} = {value!r}"):
        preflight.check(FakeApp(**{name: value}), None)


@pytest.mark.parametrize("content", ["pickle", "application/x-python-serialize", "yaml"])
def test_content_that_could_run_code_is_refused(content: str) -> None:
    with pytest.raises(ConfigurationError, match="pickle or yaml"):
        preflight.check(FakeApp(accept_content=[content]), None)


def test_a_foreign_transport_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="transport is object"):
        preflight.check(FakeApp(), None)
