"""The pool of processes under the threads that keep it at its size."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from bridge.concurrency.prefork import MortalPool


@pytest.fixture
def pool() -> Iterator[Any]:
    made = MortalPool(processes=1)
    yield made
    made.close()  # its supervisor replaces none of them
    for process in made._pool:
        process.terminate()


def test_a_process_that_is_being_started_is_not_taken_for_one_that_has_ended(
    pool: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With --autoscale two threads start processes. One met a process without a pid, and ended the worker."""
    errors: list[Exception] = []

    def maintain() -> None:
        try:
            pool.maintain_pool()
        except Exception as error:
            errors.append(error)

    # Given a thread that starts a second process, and another that looks after the pool meanwhile
    start = pool._ctx.Process.start
    others: list[threading.Thread] = []

    def slow_start(process: Any) -> None:
        others.append(threading.Thread(target=maintain))
        others[-1].start()
        others[-1].join(0.3)  # it waits for the first thread, or has found the process without a pid
        start(process)

    monkeypatch.setattr(pool._ctx.Process, "start", slow_start)
    pool.grow(1)

    # When both have ended
    maintain()
    for other in others:
        other.join(10)

    # Then there are two processes, and nothing was raised
    assert errors == []
    assert len({process.pid for process in pool._pool if process._is_alive()}) == 2
