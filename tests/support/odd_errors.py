"""Native tasks that end in exceptions which are errors themselves: to tell of them raises again."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from bridge import app
from bridge.execution.task import SidekiqTask
from tests.support.native_tasks import note


def _raises(error: type[BaseException]) -> Callable[..., Any]:
    def method(*_: Any, **__: Any) -> NoReturn:
        raise error("about an error")

    return method


def _made(name: str, base: type[BaseException] = Exception, **members: Any) -> Callable[[], BaseException]:
    return lambda: type(name, (base,), {"__module__": __name__, **members})("odd")


class Slotted(Exception):
    """Takes no attribute, and cannot be made again from its arguments."""

    def __init__(self, first: int, *, second: int) -> None:
        super().__init__(f"{first} and {second}")

    def __setattr__(self, name: str, value: object) -> None:
        raise SystemExit("no attributes")


class Text(str):
    """A text that defends itself."""

    __slots__ = ()

    def __getitem__(self, index: object) -> NoReturn:
        raise KeyboardInterrupt("no part of it")

    encode = __str__ = __format__ = __repr__ = __getitem__  # type: ignore[assignment]


def _chain(depth: int) -> BaseException:
    error: BaseException = ValueError("the first")
    for number in range(depth):
        later = ValueError(str(number))
        later.__cause__ = error
        error = later
    return error


def _caused_by(cause: BaseException) -> BaseException:
    error = ValueError("the last")
    error.__cause__ = cause
    return error


def _ring() -> BaseException:
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    return first


SINGLE = ValueError("one object for all jobs")

ERRORS: dict[str, Callable[[], BaseException]] = {
    "exit": lambda: SystemExit(3),
    "interrupt": KeyboardInterrupt,
    "generator": GeneratorExit,
    "memory": MemoryError,
    "recursion": RecursionError,
    "cancelled": asyncio.CancelledError,
    "group": lambda: BaseExceptionGroup("both", [SystemExit(1), ValueError("2")]),
    "single": lambda: SINGLE,
    "no message": Exception,
    "object": lambda: Exception(object()),
    "bytes": lambda: Exception(b"\xff"),
    "surrogate": lambda: Exception("\ud800 alone"),
    "text": lambda: Exception(Text("hostile")),
    "long": lambda: Exception("long " * 100_000),
    "truth": _made("Odd", __bool__=_raises(SystemExit)),
    "length": _made("Odd", __len__=_raises(ValueError)),
    "empty": _made("Odd", __len__=lambda _: 0),
    "truth of its cause": lambda: _caused_by(_made("Odd", __bool__=_raises(ValueError))()),
    "slotted": lambda: Slotted(1, second=2),
    "chain": lambda: _chain(5000),
    "ring": _ring,
    "module": _made("Odd", __module__=None),
    "name": _made("Odd", __qualname__="\ud800<b>"),
    "reduce exits": _made("Odd", __reduce_ex__=lambda *_: (sys.exit, (5,))),
    "args": _made("Odd", args=property(_raises(SystemExit))),
    "class": _made("Odd", __class__=property(_raises(SystemExit))),
    "not a class": _made("Odd", __class__=property(lambda _: 5)),
    "str of a kind": _made("Odd", __str__=lambda _: Text("hostile")),
    **{
        f"{method} {error.__name__}": _made("Odd", **{method: _raises(error)})
        for method in ("__str__", "__repr__", "__reduce_ex__", "__getattribute__", "__eq__", "__hash__")
        for error in (ValueError, SystemExit, KeyboardInterrupt, GeneratorExit, MemoryError, RecursionError)
    },
}  # fmt: skip


@app.task(name="OddErrorJob", bind=True, default_retry_delay=36_000)
def odd(self: SidekiqTask, name: str) -> None:
    note(self, "started", name)
    raise ERRORS[name]()


HOOKS: dict[str, Callable[[], BaseException]] = {
    "hook: exit": lambda: SystemExit(4),
    "hook: memory": MemoryError,
    "hook: error": lambda: ValueError("in a hook"),
    "hook: generator": GeneratorExit,
}


class Hooked(SidekiqTask):
    """Fails again where it hears of its failure."""

    abstract = True

    def on_retry(self, exc: Any, task_id: str, args: Any, *_: Any) -> None:
        raise HOOKS[args[0]]()

    on_failure = on_retry  # type: ignore[assignment]


@app.task(name="OddHookJob", bind=True, base=Hooked, default_retry_delay=36_000)
def hooked(self: SidekiqTask, name: str) -> None:
    note(self, "started", name)
    raise ValueError("before the hook")
