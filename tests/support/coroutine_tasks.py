"""A user's module whose tasks are coroutines, in every way in which Python lets one be written."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import logging
import os
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

from celery import current_task, signals
from celery.exceptions import Ignore, Reject, SoftTimeLimitExceeded

from bridge import app
from bridge.execution.task import SidekiqTask
from tests.support.native_tasks import note

logger = logging.getLogger("coroutine_tasks")
if os.environ.get("TEST_UNOBSERVED"):
    # Nothing but these two log lines would observe each job.
    for name in ("celery.worker.strategy", "celery.app.trace"):
        logging.getLogger(name).setLevel(logging.WARNING)

KIND: contextvars.ContextVar[str] = contextvars.ContextVar("kind", default="unset")


@app.task(name="CoroEchoJob", bind=True)
async def echo(self: SidekiqTask, *args: Any) -> None:
    await asyncio.sleep(0.01)
    note(self, "done", *args)


@app.task(name="CoroSleepJob", bind=True)
async def sleep(self: SidekiqTask, seconds: float) -> None:
    note(self, "started", seconds)
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        note(self, "cancelled", seconds)
        raise
    note(self, "done", seconds)


@app.task(name="CoroGateJob", bind=True)
async def gate(self: SidekiqTask, name: str) -> None:
    note(self, "started", name)
    place = os.path.dirname(os.environ["TEST_LEDGER_HOST"])
    while not any(os.path.exists(os.path.join(place, f"gate-{gate}")) for gate in (name, "all")):
        await asyncio.sleep(0.01)
    note(self, "done", name)


class Unlucky(Exception):
    """A failure with a class of its own."""


async def _fails(message: str) -> None:
    await asyncio.sleep(0)
    raise Unlucky(message)


@app.task(name="CoroFailJob", bind=True)
async def fail(self: SidekiqTask, message: str = "failed on purpose") -> None:
    note(self, "failed", message)
    await _fails(message)


@app.task(name="CoroRetryJob", bind=True)
async def retry(self: SidekiqTask, how: str) -> None:
    """Ends as ``how`` says."""
    await asyncio.sleep(0)
    note(self, "ran", how)
    if how == "retry":
        raise self.retry(countdown=3600, exc=Unlucky("again"))
    if how == "reject":
        raise Reject("not wanted")
    if how == "ignore":
        raise Ignore
    if how == "exit":
        raise SystemExit(3)
    if how == "cancels itself":
        runner = asyncio.current_task()
        assert runner is not None
        runner.cancel()
        await asyncio.sleep(300)
    if how == "exit in a child":
        await asyncio.gather(asyncio.sleep(0.01), _exits())


async def _exits() -> None:
    raise SystemExit(4)


@app.task(name="CoroContextJob", bind=True)
async def context(self: SidekiqTask, name: str) -> None:
    """Tells what the task knows of itself, before and after others of its kind have run."""
    KIND.set(name)
    logger.warning("says %s", name)
    await asyncio.sleep(0.3)
    seen = [self.request.id, current_task.request.id, KIND.get()]
    children = await asyncio.gather(_child(self), asyncio.to_thread(lambda: current_task.request.id))
    logger.warning("said %s", name)
    note(self, "done", seen, children, threading.current_thread().name)


async def _child(task: SidekiqTask) -> str | None:
    await asyncio.sleep(0.01)
    return task.request.id


@app.task(name="CoroSoftJob", bind=True)
async def soft(self: SidekiqTask, how: str) -> None:
    """Meets its soft limit at an await, and tidies up or does not."""
    note(self, "started", how)
    try:
        if how == "group":
            async with asyncio.TaskGroup() as group:
                group.create_task(asyncio.sleep(300))
                group.create_task(_tells_of_its_end(self))
        await asyncio.sleep(300)
    except SoftTimeLimitExceeded:
        note(self, "soft", how)
        if how == "raise":
            raise
        async with asyncio.timeout(5):  # the task is not a cancelled one: it may wait
            await asyncio.sleep(0.05)
        note(self, "tidied", how)


async def _tells_of_its_end(task: SidekiqTask) -> None:
    try:
        await asyncio.sleep(300)
    finally:
        note(task, "child ended")


@app.task(name="CoroStubbornJob", bind=True)
async def stubborn(self: SidekiqTask) -> None:
    """Swallows its cancellation, and returns as if it had finished."""
    note(self, "started")
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.sleep(300)
    note(self, "swallowed")


@app.task(name="CoroBlockJob", bind=True)
async def block(self: SidekiqTask, seconds: float) -> None:
    note(self, "started", seconds)
    time.sleep(seconds)
    note(self, "done", seconds)


# -- coroutines that do not look like one


class ClassBased(SidekiqTask):
    name = "CoroClassJob"

    async def run(self, *args: Any) -> None:
        await asyncio.sleep(0)
        note(self, "done", *args)


app.register_task(ClassBased())


def logged(function: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """A decorator as most are written: a plain function around a coroutine function."""

    @functools.wraps(function)
    def around(*args: Any, **kwargs: Any) -> Awaitable[None]:
        return function(*args, **kwargs)

    return around


@app.task(name="CoroDecoratedJob", bind=True)
@logged
async def decorated(self: SidekiqTask, *args: Any) -> None:
    await asyncio.sleep(0)
    note(self, "done", *args)


@app.task(name="CoroLambdaJob", bind=True)
def returns_one(self: SidekiqTask, *args: Any) -> Any:
    return _echo(self, *args)


async def _echo(task: SidekiqTask, *args: Any) -> None:
    await asyncio.sleep(0)
    note(task, "done", *args)


@app.task(name="CoroFailReturnedJob")
def returns_one_that_fails() -> Any:
    return _fails("returned")


async def _partial(event: str, *args: Any) -> None:
    await asyncio.sleep(0)
    note(current_task, event, *args)


class Partial(SidekiqTask):
    name = "CoroPartialJob"
    run = staticmethod(functools.partial(_partial, "done"))


app.register_task(Partial())


@app.task(name="CoroModelJob", bind=True, pydantic=True)
async def modelled(self: SidekiqTask, number: int) -> None:
    await asyncio.sleep(0)
    note(self, "done", number)


@app.task(name="CoroRunJob", bind=True)
def runs_one(self: SidekiqTask, *args: Any) -> None:
    """A plain task that has an event loop of its own."""
    asyncio.run(_echo(self, *args))


@app.task(name="GeneratorReturnedJob", bind=True)
def returns_a_generator(self: SidekiqTask) -> Any:
    return (note(self, "never", n) for n in range(3))


@app.task(name="CoroBackgroundJob", bind=True)
async def leaves_one_behind(self: SidekiqTask) -> None:
    """Starts a task that it does not await, as a library's pool of connections does."""
    BEHIND.add(asyncio.create_task(_stays(self, self.request.id)))
    note(self, "done")


BEHIND: set[asyncio.Task[None]] = set()


async def _stays(task: SidekiqTask, jid: str | None) -> None:
    try:
        await asyncio.sleep(300)
    finally:
        note(task, "ended behind", jid)


def _tell_of_signals() -> None:
    """Have Celery's signals write lines, with the thread in which each is sent."""

    def teller(event: str) -> Callable[..., None]:
        def tell(sender: Any = None, **_: Any) -> None:
            if isinstance(sender, SidekiqTask):
                note(sender, event, threading.current_thread().name, KIND.get())
                KIND.set(f"set by {event}")

        return tell

    for event in ("task_prerun", "task_postrun", "task_success", "task_failure", "task_retry"):
        getattr(signals, event).connect(teller(event), weak=False)


if os.environ.get("TEST_SIGNALS"):
    _tell_of_signals()


@app.task(name="CoroKindJob", bind=True)
async def kind(self: SidekiqTask) -> None:
    note(self, "kind", KIND.get())


class Hooked(SidekiqTask):
    """A class with hooks, and a ``__call__`` that opens a context as Flask's users write it."""

    name = "CoroHookedJob"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        KIND.set("in the context of __call__")
        try:
            return super().__call__(*args, **kwargs)
        finally:
            note(self, "left")

    async def run(self) -> None:
        await asyncio.sleep(0.05)
        note(self, "kind", KIND.get())

    def before_start(self, *_: Any) -> None:
        note(self, "before_start")

    def on_success(self, *_: Any) -> None:
        note(self, "on_success")

    def after_return(self, *_: Any) -> None:
        note(self, "after_return")


app.register_task(Hooked())


@app.task(name="CoroPushJob", bind=True)
async def pushes(self: SidekiqTask) -> None:
    note(self, "done", echo.delay(7).id)
