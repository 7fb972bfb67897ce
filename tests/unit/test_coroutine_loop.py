from __future__ import annotations

import asyncio
import contextvars
import functools
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import pytest
from celery import current_task
from celery.exceptions import SoftTimeLimitExceeded

from bridge.celery import make_app
from bridge.execution.coroutine_loop import CoroutineLoop
from bridge.execution.coroutine_run import is_coroutine_function
from bridge.execution.outcomes import DeadlineExceeded, JobCancelled, Settle
from bridge.settings import load as load_settings
from bridge.sidekiq.outcome.decision import GiveBack
from tests.support.waiting import wait_for

TOKEN = 7


@pytest.fixture(scope="module")
def app() -> Any:
    made = make_app(load_settings({}))
    for name in ("OneJob", "OtherJob"):
        made.task(name=name, shared=False)(_coroutine)

    @made.task(name="DoublesJob", shared=False)
    async def double(number: int) -> int:
        await asyncio.sleep(0)
        return number * 2

    made.finalize()
    return made


@pytest.fixture
def loop(app: Any) -> Iterator[CoroutineLoop]:
    made = CoroutineLoop(app)
    yield made
    made.stop()


@pytest.fixture
def task(app: Any) -> Any:
    return app.tasks["OneJob"]


class Caller:
    """A pool thread that runs a coroutine to its end."""

    def __init__(self, loop: CoroutineLoop, task: Any, coroutine: Any, token: int | None = TOKEN) -> None:
        self.outcome: Future[Any] = Future()

        def work() -> None:
            try:
                self.outcome.set_result(loop.run(task, coroutine, token))
            except BaseException as error:
                self.outcome.set_exception(error)

        threading.Thread(target=work, daemon=True).start()

    def error(self) -> BaseException | None:
        return self.outcome.exception(5)


async def _until(event: threading.Event) -> None:
    while not event.is_set():
        await asyncio.sleep(0.001)


def test_no_thread_starts_before_the_first_coroutine(app: Any) -> None:
    before = threading.active_count()
    loop = CoroutineLoop(app)

    assert loop.running == 0
    loop.stop()

    assert threading.active_count() == before


def test_a_thread_gets_what_its_coroutine_returns_or_raises(loop: CoroutineLoop, task: Any) -> None:
    async def adds(one: int) -> int:
        await asyncio.sleep(0)
        return one + 1

    async def fails() -> None:
        await asyncio.sleep(0)
        raise LookupError("gone")

    assert loop.run(task, adds(1), TOKEN) == 2
    with pytest.raises(LookupError, match="gone"):
        loop.run(task, fails(), TOKEN)
    wait_for(lambda: loop.running == 0, "the loop to be idle")


class NoErrors(Exception):
    """Counts what it holds, as validation errors do."""

    def __len__(self) -> int:
        return 0


def test_an_error_whose_length_is_zero_is_an_error(loop: CoroutineLoop, task: Any) -> None:
    """Under ``-P threads``, prefork and solo such a job counted as done, and was lost.

    ``concurrent.futures.Future.result`` asks whether the error is true.
    """

    async def fail() -> None:
        raise NoErrors("there is one")

    with pytest.raises(NoErrors, match="there is one"):
        loop.run(task, fail(), TOKEN)


@pytest.mark.parametrize(
    ("error", "seen"),
    [
        (DeadlineExceeded.after(1), DeadlineExceeded),
        (JobCancelled(), JobCancelled),
        (Settle(GiveBack()), Settle),
        (SoftTimeLimitExceeded(), SoftTimeLimitExceeded),
    ],
)
def test_an_error_from_outside_ends_a_coroutine(
    loop: CoroutineLoop, task: Any, error: BaseException, seen: type[BaseException]
) -> None:
    started, met = threading.Event(), []

    async def sleeps() -> None:
        started.set()
        try:
            await asyncio.sleep(300)
        except BaseException as cancelled:
            met.append(type(cancelled))
            raise

    caller = Caller(loop, task, sleeps())
    started.wait(5)
    assert loop.end(TOKEN, error)

    assert type(caller.error()) is seen
    assert issubclass(met[0], asyncio.CancelledError)
    assert not loop.end(TOKEN, error)


@pytest.mark.parametrize(
    ("error", "outcome"), [(Settle(GiveBack()), Settle), (DeadlineExceeded.after(1), None)]
)
def test_a_coroutine_that_swallows_its_cancellation_is_given_back_at_a_stop_and_done_at_a_deadline(
    loop: CoroutineLoop, task: Any, error: BaseException, outcome: type[BaseException] | None
) -> None:
    started = threading.Event()

    async def swallows() -> None:
        started.set()
        try:
            await asyncio.sleep(300)
        except asyncio.CancelledError:
            await asyncio.sleep(0)

    caller = Caller(loop, task, swallows())
    started.wait(5)
    loop.end(TOKEN, error)

    found = caller.error()
    assert found is None if outcome is None else type(found) is outcome


def test_a_coroutine_that_fails_while_it_tidies_up_at_a_stop_is_given_back(
    loop: CoroutineLoop, task: Any
) -> None:
    started = threading.Event()

    async def fails() -> None:
        started.set()
        try:
            await asyncio.sleep(300)
        finally:
            raise ConnectionError("while tidying up")

    caller = Caller(loop, task, fails())
    started.wait(5)
    loop.end(TOKEN, Settle(GiveBack()))

    assert isinstance(caller.error(), Settle)


def test_after_its_soft_limit_a_coroutine_may_wait_with_time_outs_of_its_own(
    loop: CoroutineLoop, task: Any
) -> None:
    """asyncio.timeout() would take it for a task that is still being cancelled."""
    started = threading.Event()

    async def tidies() -> str:
        started.set()
        try:
            await asyncio.sleep(300)
        except SoftTimeLimitExceeded:
            try:
                async with asyncio.timeout(0.01):
                    await asyncio.sleep(300)
            except TimeoutError:
                return "its own time-out"
        return "no limit"

    caller = Caller(loop, task, tidies())
    started.wait(5)
    loop.end(TOKEN, SoftTimeLimitExceeded())

    assert caller.outcome.result(5) == "its own time-out"


def test_an_error_raised_in_the_waiting_thread_reaches_the_coroutine(
    loop: CoroutineLoop, task: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a pool process Celery raises SoftTimeLimitExceeded in the thread that waits."""
    started, limit = threading.Event(), threading.Event()
    waits = Future.exception
    raised: list[bool] = []

    def interrupted(self: Future[Any], timeout: float | None = None) -> Any:
        if not raised and threading.current_thread() is threading.main_thread():
            started.wait(5)
            raised.append(True)
            raise SoftTimeLimitExceeded
        return waits(self, timeout)

    async def sleeps() -> str:
        started.set()
        try:
            await asyncio.sleep(300)
        except SoftTimeLimitExceeded:
            limit.set()
        return "tidied"

    monkeypatch.setattr(Future, "exception", interrupted)
    assert loop.run(task, sleeps(), TOKEN) == "tidied"
    assert limit.is_set()


def test_an_exit_in_a_child_task_ends_its_parent_and_not_the_loop(loop: CoroutineLoop, task: Any) -> None:
    async def exits() -> None:
        raise SystemExit(3)

    async def parent() -> None:
        await asyncio.gather(asyncio.sleep(0.01), exits())

    async def well() -> str:
        await asyncio.sleep(0)
        return "well"

    with pytest.raises(SystemExit):
        loop.run(task, parent(), TOKEN)
    assert loop.run(task, well(), TOKEN) == "well"


def test_a_coroutine_that_stops_the_loop_stops_no_other(loop: CoroutineLoop, task: Any) -> None:
    """Its thread ended: all coroutines hung, each later one too, and the worker ran no more of them."""

    async def stops() -> int:
        asyncio.get_running_loop().stop()
        await asyncio.sleep(0.01)
        return 1

    caller = Caller(loop, task, stops())
    assert caller.error() is None


def test_the_context_of_the_caller_is_copied_into_the_coroutine(loop: CoroutineLoop, task: Any) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")

    async def reads_and_sets() -> str:
        found = variable.get()
        variable.set("of the coroutine")
        return found

    variable.set("of the caller")
    assert loop.run(task, reads_and_sets(), TOKEN) == "of the caller"
    assert variable.get() == "of the caller"


def test_coroutines_that_run_at_once_each_have_their_own_task_on_celerys_stack(
    loop: CoroutineLoop, app: Any
) -> None:
    tasks = [app.tasks["OneJob"], app.tasks["OtherJob"]]
    go, names = threading.Event(), []

    async def tells() -> None:
        await _until(go)
        names.append(current_task.name)

    callers = [Caller(loop, task, tells(), token) for token, task in enumerate(tasks)]
    wait_for(lambda: loop.running == 2, "both to run")
    go.set()
    for caller in callers:
        assert caller.error() is None

    assert sorted(names) == sorted(task.name for task in tasks)
    assert not current_task


# -- calls outside of a job


@pytest.fixture
def doubles(app: Any) -> Any:
    return app.tasks["DoublesJob"]


def test_a_coroutine_task_that_is_called_as_a_function_returns_its_coroutine(doubles: Any) -> None:
    assert asyncio.run(doubles(4)) == 8


def test_an_eager_coroutine_task_has_its_result(app: Any, doubles: Any) -> None:
    assert doubles.apply([4]).get() == 8


def test_a_coroutine_may_run_another_eagerly(app: Any, doubles: Any, task: Any) -> None:
    """Its thread is the loop's: it would wait for itself."""

    async def eager() -> int:
        await asyncio.sleep(0)
        return int(doubles.apply([4]).get())

    assert app.bridge.coroutines.run(task, eager(), TOKEN) == 8
    app.bridge.coroutines.stop()


async def _coroutine(*_: Any) -> None:
    """Nothing."""


class _Callable:
    async def __call__(self) -> None:
        """Nothing."""


@pytest.mark.parametrize(
    ("code", "is_one"),
    [
        (_coroutine, True),
        (functools.partial(_coroutine, 1), True),
        (functools.partial(functools.partial(_coroutine, 1), 2), True),
        (_Callable(), True),
        (functools.wraps(_coroutine)(lambda *args: _coroutine(*args)), False),
        (functools.wraps(_coroutine)(lambda *args: asyncio.run(_coroutine(*args))), False),
        (time.sleep, False),
    ],
)
def test_only_code_that_runs_nothing_when_it_is_called_counts_as_a_coroutine_function(
    code: Callable[..., Any], is_one: bool
) -> None:
    """A plain wrapper may itself run an event loop, as asgiref's async_to_sync does."""
    assert is_coroutine_function(code) is is_one
