"""Control commands (and Flower's buttons) that mean something else for jobs in Sidekiq's Redis.

``revoke``: Celery's own remembers the id in each worker and drops the task when it comes. Here that would
give the job back again and again, and would silently eat a later attempt of the same jid. Ours removes a job
that waits and ends one that runs, at once; nothing stays behind.

``shutdown``: Celery's own waits for running jobs without a limit, and outside of our shutdown. Ours is TERM.

``rate_limit`` refuses what a worker refuses at its start. ``revoke_by_stamped_headers`` finds no job.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from typing import Any, cast

from celery.platforms import EX_OK
from celery.worker.control import Panel
from celery.worker.state import requests

from bridge import errors
from bridge.execution.cancellation import REVOKED
from bridge.execution.request import SidekiqRequest
from bridge.sidekiq.api.actions import Actions
from bridge.sidekiq.api.commands import Commands
from bridge.sidekiq.outcome import notice
from bridge.sidekiq.outcome.decision import Discard
from bridge.sidekiq.payload import queue_names
from bridge.worker import end_signals

logger = logging.getLogger(__name__)
_CELERYS_RATE_LIMIT: Any = Panel.data["rate_limit"]
_CELERYS_ADD_CONSUMER: Any = Panel.data["add_consumer"]


def install() -> None:
    """Take the place of Celery's commands in this worker."""
    Panel.data["revoke"] = command
    for name in ("pool_grow", "pool_shrink"):
        Panel.data[name] = _resizing(Panel.data[name])
    Panel.data["terminate"] = lambda state, signal, task_id, **_: command(state, task_id)
    Panel.data["shutdown"] = shutdown
    Panel.data["rate_limit"] = rate_limit
    Panel.data["add_consumer"] = add_consumer
    Panel.data["revoke_by_stamped_headers"] = revoke_by_stamped_headers


def _resizing(celerys: Callable[..., Any]) -> Callable[..., Any]:
    """A command that changes the pool's size: what cannot be done is an answer, not a traceback."""

    def resize(state: Any, n: int = 1, **_: Any) -> dict[str, str]:
        if not hasattr(state.consumer.pool, "grow"):
            return {
                "error": "the pool of this worker has a fixed size: use the bridge's own pool or -P prefork"
            }
        try:
            return cast(dict[str, str], celerys(state, n))
        except ValueError as error:
            return {"error": str(error)}

    return resize


def shutdown(state: Any, msg: str = "got shutdown from remote", **_: Any) -> dict[str, str]:
    """End this worker as TERM does: within the shutdown time-out, and every job settled or given back."""
    logger.warning(msg)
    end_signals.end(state.hostname, "TERM", "Warm", EX_OK)
    return {"ok": "shutting down"}


def command(
    state: Any, task_id: Any, terminate: bool = False, signal: Any = None, **_: Any
) -> dict[str, str]:
    """Remove or end jobs by their jid. The work is done in a thread: this runs on the consumer's."""
    jids = [task_id] if isinstance(task_id, str) else [str(jid) for jid in task_id or ()]
    running = {jid: request for jid in jids if (request := requests.get(jid)) is not None}
    threading.Thread(target=_revoke, args=(state, jids, running), name="bridge-revoke", daemon=True).start()
    return {"ok": f"revoking {len(jids)} jobs, {len(running)} of them running here"}


def rate_limit(state: Any, task_name: str, rate_limit: Any, **options: Any) -> Any:
    """Celery's, unless the limit would hold the jobs of all Ruby classes, or names no task of this worker."""
    task = state.app.tasks.get(task_name)
    if task is None:
        return {
            "error": f"{task_name} is not a native task of this worker: a Ruby class has its limits in Ruby"
        }
    try:
        state.app.bridge.task_policy.judge_change(task, "rate_limit", rate_limit)
    except errors.ConfigurationError as error:
        return {"error": str(error)}
    return _CELERYS_RATE_LIMIT(state, task_name, rate_limit, **options)


def add_consumer(state: Any, queue: Any, **options: Any) -> Any:
    """Celery's, for a name that a Sidekiq queue can have."""
    if (wrong := queue_names.objection(queue)) is not None:
        return {"error": wrong}
    if options.get("exchange_type") == "fanout":
        return {"error": f"{queue}: a broadcast has no place here, because a Sidekiq job runs once"}
    return _CELERYS_ADD_CONSUMER(state, queue, **options)


def revoke_by_stamped_headers(state: Any, headers: Any, **_: Any) -> dict[str, str]:
    """Refused: Celery would look for the stamps in every later job."""
    return {"error": "a Sidekiq job carries no stamps: revoke it by its jid"}


def _revoke(state: Any, jids: Iterable[str], running: dict[str, Any]) -> None:
    runtime = state.app.bridge
    actions = Actions(runtime.store, lambda: runtime.dialect.timestamps)
    commands = Commands(runtime.store.client)
    for jid in jids:
        try:
            if jid in running:
                _end(state, running[jid])
            elif commands.first_to_revoke(jid):
                logger.info("revoked jid=%s: removed %d waiting jobs", jid, actions.revoke_waiting(jid))
        except (errors.StoreError, errors.SidecarError) as error:
            logger.error("could not revoke jid=%s: %s", jid, error)


def _end(state: Any, request: SidekiqRequest) -> None:
    runtime = state.app.bridge
    if runtime.fetcher.in_flight.aside.take(request.delivery.token):  # by a rate limit; it has not begun
        runtime.fetcher.settle(request.delivery.token, Discard(notice.REVOKED))
    elif request.native and request.in_process:
        logger.warning("ending jid=%s: %s", request.id, REVOKED)
        if request.in_ruby_middleware:
            runtime.sidecar.cancel(request.delivery, "revoked", REVOKED)
        runtime.fetcher.in_flight.decide(request.delivery.token, Discard(notice.REVOKED))
        request.terminate(state.consumer.pool, signal="KILL")
    else:
        runtime.cancellation.revoke(request)
