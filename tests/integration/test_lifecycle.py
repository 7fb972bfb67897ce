"""The end of a worker: in a bounded time, with everything settled or given back, and no key left behind."""

from __future__ import annotations

import atexit
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery import signals

from bridge.sidekiq.outcome.decision import Done
from bridge.worker import shutdown
from bridge.worker.shutdown import Lifecycle
from tests.integration.worker import Worker, job, next_first, push
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_for

Maker = Callable[..., Worker]


@pytest.fixture
def make_lifecycle(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Lifecycle]]:
    """Lifecycles whose process does not really end."""
    exits: list[int] = []
    monkeypatch.setattr(shutdown, "GRACE_SECONDS", 0.3)
    monkeypatch.setattr(shutdown, "EXIT_SECONDS", 0.3)
    monkeypatch.setattr(shutdown.logging, "shutdown", lambda: None)
    made: list[Lifecycle] = []

    def make(
        worker: Worker,
        timeout: float = 0.1,
        interrupt: Callable[[], Any] = lambda: None,
        ask_to_stop: Callable[[], Any] = lambda: None,
    ) -> Any:
        worker.fetcher.detach(worker)
        made.append(
            Lifecycle(worker.fetcher, timeout, interrupt, ask_to_stop=ask_to_stop, exit_process=exits.append)
        )
        made[-1].exits = exits  # type: ignore[attr-defined]
        return made[-1]

    yield make
    for one in made:
        signals.worker_shutting_down.disconnect(one._on_shutting_down)
        atexit.unregister(one._exit)


def test_jobs_that_do_not_end_are_given_back_and_the_process_goes(
    worker: Worker, make_lifecycle: Callable[..., Any]
) -> None:
    jobs = [job(), job(), job()]
    push(worker.client, "default", *jobs)
    worker.take()
    ending = make_lifecycle(worker)
    signals.worker_shutting_down.send(sender="w", sig="TERM", how="Warm", exitcode=0)
    wait_for(lambda: ending.exits == [0], "the end")
    assert next_first(worker.client) == jobs
    assert not worker.client.exists("bridge:lease", worker.inflight_key)


def test_a_job_that_ends_in_time_is_settled_and_celery_does_the_rest(
    worker: Worker, make_lifecycle: Callable[..., Any]
) -> None:
    push(worker.client, "default", job())
    (unit,) = worker.take()
    ending = make_lifecycle(worker, timeout=5.0)
    signals.worker_shutting_down.send(sender="w", sig="TERM", how="Warm", exitcode=0)
    worker.fetcher.settle(unit.delivery.token, Done())
    ending.finish()
    assert worker.client.get("stat:processed") == b"1"
    assert not worker.client.exists("bridge:lease")
    assert ending.exits == []


def test_a_sidecar_that_does_not_answer_keeps_no_job_from_being_given_back(
    worker: Worker, make_lifecycle: Callable[..., Any]
) -> None:
    """Each running job was waited for half a minute, one after the other; a supervisor kills long before."""
    push(worker.client, "default", payload := job())
    worker.take()
    hanging = threading.Event()
    ending = make_lifecycle(worker, interrupt=lambda: hanging.wait(20))
    signals.worker_shutting_down.send(sender="w", sig="TERM", how="Warm", exitcode=0)
    wait_for(lambda: ending.exits == [0], "the end", 5)
    hanging.set()
    assert next_first(worker.client) == [payload]


def test_settlements_are_written_through_a_short_outage_at_the_end(
    own_server: RedisServer, make_worker: Maker, make_lifecycle: Callable[..., Any]
) -> None:
    """They were tried once: a Redis that was restarting just then made all of them run a second time."""
    worker = make_worker(own_server.port, timeout_seconds=0.1)
    push(worker.client, "default", job())
    (unit,) = worker.take()
    ending = make_lifecycle(worker)
    shutdown.GRACE_SECONDS = 5.0
    worker.client.execute_command("CLIENT", "PAUSE", 400, "ALL")
    worker.fetcher.settle(unit.delivery.token, Done())
    assert not worker.fetcher.idle
    ending.finish()
    assert worker.client.get("stat:processed") == b"1"


def test_quit_gives_back_at_once(worker: Worker, make_lifecycle: Callable[..., Any]) -> None:
    push(worker.client, "default", payload := job())
    worker.take()
    ending = make_lifecycle(worker, timeout=60.0)
    started = time.monotonic()
    signals.worker_shutting_down.send(sender="w", sig="QUIT", how="Cold", exitcode=0)
    wait_for(lambda: ending.exits == [0], "the end", 5)
    assert time.monotonic() - started < 3
    assert next_first(worker.client) == [payload]


def test_a_worker_is_not_idle_while_a_claim_is_on_its_way(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What such a claim brings would have had nobody to give it back."""
    push(worker.client, "default", job())
    seen: list[bool] = []
    exchange = worker.store.exchange

    def look(*args: Any) -> Any:
        seen.append(worker.fetcher.idle)
        return exchange(*args)

    monkeypatch.setattr(worker.store, "exchange", look)
    assert worker.fetcher.idle
    worker.take()
    assert seen == [False]


def test_a_quiet_worker_asks_its_jobs_to_stop_once_and_does_not_wait_for_the_answer(
    worker: Worker, make_lifecycle: Callable[..., Any]
) -> None:
    """Jobs that know checkpoints were asked when the time for running jobs had passed, 25 s after TERM."""
    asked: list[float] = []
    hanging = threading.Event()

    def ask() -> None:
        asked.append(time.monotonic())
        hanging.wait(20)

    push(worker.client, "default", job())
    (unit,) = worker.take()
    ending = make_lifecycle(worker, timeout=30.0, ask_to_stop=ask)

    began_at = time.monotonic()
    ending.on_signal("TSTP")
    wait_for(lambda: asked, "the question")
    signals.worker_shutting_down.send(sender="w", sig="TERM", how="Warm", exitcode=0)

    worker.fetcher.settle(unit.delivery.token, Done())
    ending.finish()
    hanging.set()
    assert len(asked) == 1
    assert time.monotonic() - began_at < 5
    assert ending.exits == []
