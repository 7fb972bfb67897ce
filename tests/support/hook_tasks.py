"""Tasks whose hooks raise, after the run has been decided."""

from __future__ import annotations

from typing import Any

from celery.exceptions import Reject

from bridge import app
from bridge.execution.task import SidekiqTask
from tests.support.native_tasks import note

HOOKS: dict[str, Any] = {
    "error": lambda: RuntimeError("in the hook"),
    "exit": lambda: SystemExit(3),
    "reject": lambda: Reject("in the hook", requeue=False),
}


class Hooked(SidekiqTask):
    """Each of its hooks raises what the first argument names."""

    abstract = True

    def on_failure(self, exc: Any, task_id: str, args: Any, *_: Any) -> None:
        raise HOOKS[args[0]]()

    on_retry = on_failure  # type: ignore[assignment]


@app.task(name="LaterHookJob", bind=True, base=Hooked)
def later(self: SidekiqTask, hook: str) -> None:
    note(self, "started")
    self.retry(countdown=36_000, exc=ValueError("of the run"))


@app.task(name="FinalHookJob", bind=True, base=Hooked, dont_autoretry_for=(ValueError,))
def final(self: SidekiqTask, hook: str) -> None:
    note(self, "started")
    raise ValueError("of the run")


class Rejecting(SidekiqTask):
    """Rejects its job when the run has succeeded."""

    abstract = True

    def on_success(self, *_: Any) -> None:
        raise Reject("in the hook", requeue=False)


@app.task(name="RejectingHookJob", bind=True, base=Rejecting)
def rejecting(self: SidekiqTask) -> None:
    note(self, "started")
