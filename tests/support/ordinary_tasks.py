"""A user's module with tasks as Celery's own documentation writes them."""

from __future__ import annotations

import contextvars
import datetime
import time
from typing import Any

from celery import Task, signals
from celery.worker.strategy import default as celerys_strategy
from pydantic import BaseModel

from bridge import app
from bridge.execution.task import SidekiqTask
from tests.support.native_tasks import note

app.conf.task_routes = {"RoutedJob": {"queue": "routed"}, "Glob*": {"queue": "routed"}}
app.conf.beat_schedule = {"tick": {"task": "TickJob", "schedule": 1.0, "options": {"queue": "ordinary"}}}


@app.task(name="RequestJob", bind=True)
def request(self: SidekiqTask, *args: Any) -> None:
    """Tells what ``self.request`` says."""
    found = self.request
    names = "id args kwargs retries is_eager called_directly task eta expires"
    shown = {name: getattr(found, name) for name in names.split()}
    shown["queue"] = found.delivery_info["routing_key"]
    shown["redelivered"] = found.delivery_info["redelivered"]
    note(self, "done", shown, found.hostname)


@app.task(name="LaterJob", bind=True)
def later(self: SidekiqTask, how: str) -> None:
    if self.request.retries == 0:
        if how == "countdown":
            raise self.retry(countdown=1)
        raise self.retry(eta=datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=1))
    note(self, "done", self.request.retries)


class Hooks(Task):
    """Every hook of Celery's ``Task``."""

    name = "HooksJob"
    fails = ()

    def run(self, how: str) -> str:
        note(self, "run", how)
        if how == "fails":
            raise ValueError(how)
        return "result"

    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        note(self, "before_start", task_id, args)

    def on_success(self, retval: Any, task_id: str, args: Any, kwargs: Any) -> None:
        note(self, "on_success", retval)

    def on_retry(self, exc: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        note(self, "on_retry", type(exc).__name__)

    def on_failure(self, exc: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        note(self, "on_failure", type(exc).__name__)

    def after_return(self, status: str, *_: Any) -> None:
        note(self, "after_return", status)


app.register_task(Hooks())
CONTEXT: contextvars.ContextVar[str] = contextvars.ContextVar("context", default="outside")


class ContextTask(Task):
    """As Flask's documentation has it: a context around each run."""

    abstract = True

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        token = CONTEXT.set("inside")
        try:
            return self.run(*args, **kwargs)
        finally:
            CONTEXT.reset(token)


@app.task(name="ContextJob", base=ContextTask, bind=True)
def context(self: Any) -> None:
    note(self, "done", CONTEXT.get())


class Order(BaseModel):
    number: int
    note: str = "none"


@app.task(name="ModelJob", bind=True, pydantic=True)
def model(self: SidekiqTask, order: Order) -> None:
    note(self, "done", order.number + 1, order.note)


@app.task(name="StartedJob", bind=True, track_started=True)
def started(self: SidekiqTask) -> None:
    note(self, "done")


def strategy(task: Any, app: Any, consumer: Any) -> Any:
    """Celery's own, with a line for each message."""
    inner = celerys_strategy(task, app, consumer)

    def handle(message: Any, *args: Any, **kwargs: Any) -> Any:
        note(task, "strategy", message.headers["id"])
        return inner(message, *args, **kwargs)

    return handle


@app.task(name="StrategyJob", bind=True, Strategy="tests.support.ordinary_tasks:strategy")
def with_strategy(self: SidekiqTask) -> None:
    note(self, "done")


@app.task(name="LargeJob", bind=True)
def large(self: SidekiqTask) -> bytes:
    """Returns 50 MB, which nothing keeps."""
    note(self, "done")
    return bytes(50_000_000)


@app.task(name="RoutedJob", bind=True)
def routed(self: SidekiqTask) -> None:
    note(self, "done", self.request.delivery_info["routing_key"])


@app.task(name="GlobRoutedJob", bind=True)
def glob(self: SidekiqTask) -> None:
    note(self, "done", self.request.delivery_info["routing_key"])


@app.task(name="LimitedJob", bind=True, time_limit=1.0)
def limited(self: SidekiqTask) -> None:
    note(self, "started")
    _wait(60)


@app.task(name="SoftLimitedJob", bind=True, soft_time_limit=0.5)
def soft_limited(self: SidekiqTask) -> None:
    note(self, "started")
    _wait(60)


@app.task(name="LongJob", bind=True)
def long(self: SidekiqTask, seconds: float) -> None:
    note(self, "started")
    _wait(seconds)
    note(self, "done")


@app.task(name="TickJob", bind=True)
def tick(self: SidekiqTask) -> None:
    note(self, "tick")


def _wait(seconds: float) -> None:
    """In Python, where an exception from outside arrives."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        time.sleep(0.01)


def _receiver(name: str) -> Any:
    def tell(sender: Any = None, **_: Any) -> None:
        if getattr(sender, "name", None) in ("HooksJob", "RequestJob"):
            note(sender, f"signal {name}")

    return tell


for _name in ("task_prerun", "task_postrun", "task_success", "task_retry", "task_failure"):
    getattr(signals, _name).connect(_receiver(_name), weak=False)
