"""The log lines at a worker's start: its queues, slots and tasks, and settings that look like mistakes."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from bridge import errors
from bridge.monitoring import native_names
from bridge.monitoring.native_names import Near
from bridge.redis.client import connect
from bridge.redis.outages import outages
from bridge.sidekiq import keys
from bridge.sidekiq.fetch.queues import QueueMode, QueueSet
from bridge.sidekiq.payload.job import SidekiqJob

if TYPE_CHECKING:
    from bridge.runtime import Runtime
    from bridge.settings import Settings

logger = logging.getLogger(__name__)

#: Jobs of each queue, and queues, that are read to compare their classes with the native tasks.
SAMPLE = 100
MOST_QUEUES = 50
#: A Redis that is away must not delay the start: the consumer waits for it, and says so.
REDIS_SECONDS = 0.5
MOST_NAMES = 30
#: Names of queues are short, and only those that never had a job are compared.
SIMILAR_QUEUE = 0.8
_POOLS = {"hybrid": "bridge", "thread": "threads"}


def say(runtime: Runtime, worker: Any) -> None:
    """Log the line, and a warning for each probable mistake."""
    settings = runtime.settings
    queues = served(runtime)
    near, doubtful = look(runtime, queues.names)
    logger.info("%s", "; ".join(parts(runtime, worker, queues, near)))
    for complaint in settings.file.complaints:
        logger.warning("%s", complaint)
    for name, known in doubtful:
        logger.warning("queue %s has never had a job: did you mean %s?", name, known)
    for each in near:
        logger.warning(
            "jobs of %s wait, and the native task is named %s: Ruby runs these jobs. "
            "Correct the name of the task if Python should run them",
            each.job_class,
            each.task,
        )


def parts(runtime: Runtime, worker: Any, queues: QueueSet, near: Sequence[Near]) -> Iterable[str]:
    """The halves of the line, in the order of interest."""
    settings = runtime.settings
    yield f"takes jobs from {_queues(queues)}"
    yield f"slots {_slots(worker)}, pool {_pool(worker)}"
    yield f"native tasks {_names(native_names.native(runtime.app), near)}"
    yield f"sidecars {', '.join(settings.sidecar_url)} ({_source(settings, 'sidecar_url')})"
    yield f"Redis {settings.redis_url} ({_source(settings, 'redis_url')})"
    yield f"configuration {_configuration(runtime)}"


def served(runtime: Runtime) -> QueueSet:
    """The queues that this worker is about to consume, with the weights that count for them."""
    weights = runtime.settings.queues.weight_by_name
    return QueueSet.of((name, weights.get(name, 0)) for name in runtime.app.amqp.queues.consume_from)


def look(runtime: Runtime, names: Sequence[str]) -> tuple[list[Near], list[tuple[str, str]]]:
    """What Redis shows to be doubtful: classes of waiting jobs that a native task nearly has, and queues
    whose name is nearly that of one with jobs. Nothing where Redis does not answer.
    """
    quick = runtime.redis_address.but(connect_timeout_seconds=REDIS_SECONDS, timeout_seconds=REDIS_SECONDS)
    client = connect(quick, runtime.follower)
    try:
        classes, known = _waiting(client, names)
    except errors.StoreError as error:
        logger.debug("the waiting jobs could not be compared with the settings: %s", error)
        return [], []
    finally:
        client.close()
    return native_names.near(classes, native_names.native(runtime.app)), _doubtful(names, known)


def _waiting(client: Any, names: Sequence[str]) -> tuple[set[str], set[str]]:
    """Classes of waiting jobs, and the names of all queues that have had one."""
    with outages():
        pipeline = client.pipeline(transaction=False)
        pipeline.smembers(keys.QUEUES)
        for name in names[:MOST_QUEUES]:
            pipeline.lrange(keys.queue(name), -SAMPLE, -1)
        known, *found = pipeline.execute(raise_on_error=False)
    payloads = (payload for tail in found if isinstance(tail, list) for payload in tail)
    queues = {name.decode(errors="replace") for name in known} if isinstance(known, set) else set()
    return {name for name in map(_class, payloads) if name is not None}, queues


def _doubtful(names: Sequence[str], known: Collection[str]) -> list[tuple[str, str]]:
    others = sorted({*known} - {*names})
    close = ((name, _close(name, others)) for name in names if name not in known)
    return [(name, other) for name, other in close if other is not None]


def _close(name: str, others: Sequence[str]) -> str | None:
    folded = {other.casefold(): other for other in others}
    found = difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=SIMILAR_QUEUE)
    return folded[found[0]] if found else None


def _class(payload: bytes) -> str | None:
    try:
        return SidekiqJob.parse(payload).native_class
    except errors.PayloadError:
        return None  # the claim buries it


def _queues(queues: QueueSet) -> str:
    if queues.mode is QueueMode.STRICT:
        return f"{', '.join(queues.names)}{' (in this order)' if len(queues.names) > 1 else ''}"
    weighted = ", ".join(f"{name}:{weight}" for name, weight in queues.weight_by_name.items())
    return f"{weighted} (by weight)"


def _slots(worker: Any) -> int:
    return 1 if worker.pool_cls.__module__.endswith(".solo") else int(worker.concurrency)


def _pool(worker: Any) -> str:
    name = worker.pool_cls.__module__.rpartition(".")[2]
    return str(_POOLS.get(name, name))


def _names(natives: Sequence[str], near: Sequence[Near]) -> str:
    doubts = {each.task: str(each) for each in near}
    shown = [doubts.pop(name, name) for name in natives[:MOST_NAMES]]
    shown += doubts.values()
    more = f" and {len(natives) - MOST_NAMES} more" if len(natives) > MOST_NAMES else ""
    return (", ".join(shown) or "none") + more


def _source(settings: Settings, name: str) -> str:
    return settings.source(name) if settings.says(name) else "default"


def _configuration(runtime: Runtime) -> str:
    settings = runtime.settings
    if settings.config is None:
        return "from the environment"
    section = f", section {settings.file.section}" if settings.file.section else ""
    return f"{settings.config}{section}"
