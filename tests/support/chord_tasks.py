"""The tasks of Celery's documentation of its canvas."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

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
