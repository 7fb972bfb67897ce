"""The tasks of Celery's documentation of its canvas."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from celery.exceptions import Ignore

from bridge import app


@app.task(track=True)
def add(x: int, y: int) -> int:
    return x + y


@app.task(track=True)
def mul(x: int, y: int) -> int:
    return x * y


@app.task(track=True)
def xsum(numbers: list[int]) -> int:
    return sum(numbers)


@app.task(track=True, max_retries=0)
def raising(*args: Any) -> None:
    raise ValueError("something something")


@app.task(track=True)
def gather(*args: Any) -> list[Any]:
    return list(args)


@app.task(track=True, max_retries=0, bind=True)
def once(self: Any) -> str:
    """Dies in its first run."""
    mark = Path(os.environ["TEST_LEDGER_HOST"]).parent / f"once-{self.request.id}"
    if not mark.exists():
        mark.touch()
        raise ValueError("the first run fails on purpose")
    return "second time"


@app.task(track=True)
def unstorable() -> object:
    return object()


@app.task
def on_chord_error(request: Any, exc: BaseException, traceback: Any) -> None:
    """The handler of Celery's documentation."""
    with Path(os.environ["TEST_LEDGER_HOST"]).parent.joinpath("chord-errors").open("a") as log:
        log.write(f"Task {request.id!r} raised error: {exc!r}\n")


@app.task
def alert(jid: str) -> None:
    """A handler that is a job as any other."""
    with Path(os.environ["TEST_LEDGER_HOST"]).parent.joinpath("chord-errors").open("a") as log:
        log.write(f"alert {jid}\n")


@app.task(track=True, max_retries=0, bind=True)
def replacing(self: Any) -> Any:
    raise self.replace(add.s(1, 1))


@app.task(track=True)
def ignoring() -> None:
    raise Ignore


@app.task(track=True)
def same(values: list[Any]) -> list[Any]:
    return values
