"""Coroutine tasks whose errors cannot be told of, and tasks whose results cannot."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from bridge import app
from bridge.execution.task import SidekiqTask
from tests.support.native_tasks import note
from tests.support.odd_errors import ERRORS
from tests.support.odd_errors import _raises as raising


@app.task(name="OddCoroutineJob", bind=True, default_retry_delay=36_000)
async def odd_coroutine(self: SidekiqTask, name: str) -> None:
    note(self, "started", name)
    await asyncio.sleep(0)
    raise ERRORS[name]()


def _result(**members: Any) -> Callable[[], Any]:
    return lambda: type("OddResult", (), {"__module__": __name__, **members})()


RESULTS: dict[str, Callable[[], Any]] = {
    "result: lambda": lambda: lambda: None,
    **{
        f"result: {method} {error.__name__}": _result(**{method: raising(error)})
        for method in ("__repr__", "__str__", "__reduce_ex__", "__getattribute__", "__eq__", "__bool__")
        for error in (ValueError, SystemExit, KeyboardInterrupt, MemoryError)
    },
}


@app.task(name="OddResultJob", bind=True)
def odd_result(self: SidekiqTask, name: str) -> Any:
    note(self, "started", name)
    return RESULTS[name]()
