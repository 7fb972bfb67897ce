"""Options of the pool: each works, or is refused or named at the start."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from typing import Any

from bridge.errors import ConfigurationError
from bridge.worker import preflight

logger = logging.getLogger(__name__)

GREEN = ("gevent", "eventlet")
#: What to do with a program that is patched.
PATCHED = {"gevent": "Start it with -P gevent", "eventlet": "Use gevent and -P gevent"}
#: Celery's pools whose size is fixed when they are made.
FIXED = {"thread": "threads", "solo": "solo"}


def check(worker: Any) -> None:
    """Refuse what stops this worker before its pool exists. Raises ConfigurationError."""
    pool = _name(worker.pool_cls)
    if pool == "eventlet":
        raise ConfigurationError(
            "-P eventlet: the bridge does not run on eventlet, whose maintainers advise against it. "
            "Leave -P away for the bridge's own pool, or write -P gevent."
        )
    if pool not in GREEN and (library := _patched_by()) is not None:
        raise ConfigurationError(
            f"{library} has patched sockets and threads, and this pool does not run on {library}: the worker "
            f"would hang. {PATCHED[library]}, or do not patch in a module that it imports."
        )
    if pool == "prefork" and worker.pool_start_method != "fork":
        raise ConfigurationError(
            f"--pool-start-method={worker.pool_start_method}: the pool processes of the bridge share locks "
            "with their worker, which only a fork passes on. Leave the option away, or write fork."
        )
    multiplier = worker.prefetch_multiplier
    if multiplier != worker.app.conf.worker_prefetch_multiplier:  # the option; preflight judges the setting
        harm = preflight.REQUIRED["worker_prefetch_multiplier"][1]
        raise ConfigurationError(f"--prefetch-multiplier={multiplier}: {harm}. Leave the option away.")


def check_made(instance: Any, **_: Any) -> None:
    """Refuse or name options that the made pool has no use for. Celery calls this once the log is set up."""
    if not hasattr(instance.app, "bridge"):
        return  # another Celery application in this process
    pool = _name(type(instance.pool))
    if instance.autoscale and pool in FIXED:
        most, least = instance.autoscale
        preflight.refuse(
            ConfigurationError(
                f"--autoscale={most},{least}: the pool of -P {FIXED[pool]} has a fixed size. Leave -P away "
                "for the bridge's own pool, use -P prefork, or write -c instead of --autoscale."
            )
        )
    if pool != "prefork":
        for sentence in _in_vain(instance):
            logger.warning("%s", sentence)


def _in_vain(worker: Any) -> Iterator[str]:
    if worker.max_tasks_per_child:
        yield (
            f"--max-tasks-per-child={worker.max_tasks_per_child} has no effect in this pool, which has no "
            "processes of its own: use -P prefork, or BRIDGE_MAX_MEMORY_MEGABYTES to end a worker that grows"
        )
    if worker.max_memory_per_child:
        yield (
            f"--max-memory-per-child={worker.max_memory_per_child} has no effect in this pool, which has no "
            "processes of its own: use BRIDGE_MAX_MEMORY_MEGABYTES for this worker, or -P prefork"
        )


def _name(pool: type) -> str:
    return pool.__module__.rpartition(".")[2]


def _patched_by() -> str | None:
    gevent, eventlet = sys.modules.get("gevent.monkey"), sys.modules.get("eventlet.patcher")
    if gevent is not None and (gevent.is_module_patched("socket") or gevent.is_module_patched("threading")):
        return "gevent"
    if eventlet is not None and (
        eventlet.is_monkey_patched("socket") or eventlet.is_monkey_patched("thread")
    ):
        return "eventlet"
    return None
