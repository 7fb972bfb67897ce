"""The gems of an app beside the bridge: those that work, and those that lose something (``docs/gems.md``)."""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterator
from typing import NamedTuple

from bridge.sidecar.health import Health

PAGE = "docs/gems.md"
SETTING = "BRIDGE_ACCEPT_GEMS"


class Verdict(enum.Enum):
    """How a gem fares beside the bridge."""

    WORKS = "works"
    PARTLY = "partly"
    LOST = "lost"


class Fare(NamedTuple):
    """One gem or hook: ``name`` as ``BRIDGE_ACCEPT_GEMS`` takes it, what is so, and what to do about it."""

    name: str
    verdict: Verdict
    seen: str
    cure: str
    refuses: bool = False
    """Whether a worker does not start beside it: limits or fetching would be lost."""


_NOTHING = "nothing is to be done"
_MIDDLEWARE = "mark the tasks @app.task(ruby_middleware=True), or name them in BRIDGE_RUBY_MIDDLEWARE"

#: Gems that work for every job.
_WORKING: dict[str, str] = {
    "gitlab-sidekiq-fetcher": "its fetcher is not used: the worker keeps jobs through crashes itself",
    "job-iteration": "its jobs stop at a checkpoint when their worker stops",
    "judoscale-sidekiq": "it reads Sidekiq's own figures",
    "maintenance_tasks": "its jobs stop at a checkpoint when their worker stops",
    "sidekiq-cron": "the sidecar runs its poller",
    "sidekiq-iteration": "its jobs stop at a checkpoint when their worker stops",
    "sidekiq-prometheus-exporter": "it reads Sidekiq's own figures",
    "sidekiq-reliable-fetch": "its fetcher is not used: the worker keeps jobs through crashes itself",
    "sidekiq-scheduler": "the sidecar runs its schedule",
    "sidekiq_alive": "its queue is served first, and its server starts in one process of the sidecar",
}
#: Gems that are server middleware or error handlers, with what a native task goes without.
_AROUND_RUNS: dict[str, str] = {
    "activejob-uniqueness": "the lock of a native job stays until its end is dead or its time is over",
    "apartment-sidekiq": "native jobs run without a tenant",
    "datadog": "native jobs need Datadog's Python library; their trace headers are handed on",
    "honeybadger": "native failures reach its error handler, and nothing else of a native job",
    "newrelic_rpm": "native jobs need New Relic's Python library",
    "opentelemetry-instrumentation-sidekiq": "native jobs need BRIDGE_TRACING",
    "rollbar": "native failures reach its error handler, and nothing else of a native job",
    "sentry-sidekiq": "native jobs need Sentry's Python library; their trace headers are handed on",
    "sidekiq-batch": "a native job that is done is not counted; one that dies is",
    "sidekiq-ent": "its unique locks and limiters do not see native jobs",
    "sidekiq-failures": "native failures are absent",
    "sidekiq-pro": "a native job that is done is not counted in its batch; one that dies is",
    "sidekiq-status": "its hash has the ends of native jobs, and the progress of tracked ones only",
    "sidekiq-throttled": "native jobs keep none of its limits; a limit in BRIDGE_LIMITS holds for both",
    "sidekiq-unique-jobs": "a native job that is done keeps its lock; one that dies does not",
    "yabeda-sidekiq": "native jobs are absent from its figures: the worker's /metrics has them",
}
#: Fetchers that only keep jobs through crashes, which the worker does itself.
_RELIABLE = frozenset(
    [
        "Sidekiq::ReliableFetch",
        "Sidekiq::SemiReliableFetch",
        "Sidekiq::Pro::SuperFetch",
        "Sidekiq::Pro::ReliableFetch",
    ]
)
_OF_GEMS = (
    "Sidekiq::Throttled::",
    "Sidekiq::LimitFetch::",
    "Sidekiq::Manager::InitLimitFetch",
    "Sidekiq::WorkerKiller",
)


def fares(health: Health, bare: Collection[str] = ()) -> Iterator[Fare]:
    """A verdict on each gem and hook that a sidecar reports.

    ``bare``: native tasks that run outside of the app's middleware; without any, all jobs pass it.
    """
    for name in sorted(health.gems):
        yield _fare(name, bare)
    if health.fetch is not None:
        yield _of_fetcher(health.fetch)
    for patch in health.patches:
        place, _, module = patch.partition(": ")
        if not module.startswith(_OF_GEMS):
            yield _of_patch(patch, place, module)


def objection(health: Health, accepted: Collection[str]) -> str | None:
    """Why a worker must not take this app's jobs: a sentence that says what to do. None: it may."""
    for fare in fares(health):
        if fare.refuses and fare.name not in accepted:
            return f"the app has {fare.name}: {fare.seen}. Either {fare.cure} ({PAGE})"
    return None


def _fare(name: str, bare: Collection[str]) -> Fare:
    if name == "sidekiq-limit_fetch":
        seen = "the worker keeps its limits, its limits of a process and its pauses; not its blocking queues"
        return Fare(name, Verdict.PARTLY, seen, "order queues by -Q instead of :blocking:")
    if name in _WORKING:
        return Fare(name, Verdict.WORKS, _WORKING[name], _NOTHING)
    if name == "sidekiq-worker-killer":
        seen = "it finds no process of its own to stop, and raises in its thread: its limit is off"
        return Fare(name, Verdict.LOST, seen, "start the sidecar with --max-rss, and take the gem out")
    if name == "sidekiq-grouping":
        seen = "it groups what Ruby pushes; Python's pushes pass it by"
        return Fare(name, Verdict.PARTLY, seen, "push by app.send_task(..., ruby_client=True)")
    if not bare:
        return Fare(name, Verdict.WORKS, "every job passes the app's middleware", _NOTHING)
    seen = f"it sees no run of {', '.join(sorted(bare)[:5])}: {_AROUND_RUNS.get(name, 'they run in Python')}"
    return Fare(name, Verdict.PARTLY, seen, _MIDDLEWARE)


def _of_fetcher(name: str) -> Fare:
    if name in _RELIABLE or name.startswith("Sidekiq::Pro::"):
        seen = "the fetcher is not used: the worker keeps jobs through crashes itself"
        return Fare(name, Verdict.WORKS, seen, _NOTHING)
    seen = "the app's own fetcher is never called: the worker fetches, by BRIDGE_QUEUES and -Q"
    return Fare(
        name, Verdict.LOST, seen, f"take it out, or accept the loss by {SETTING}={name}", refuses=True
    )


def _of_patch(patch: str, place: str, module: str) -> Fare:
    if place.startswith("Sidekiq::BasicFetch"):
        name = module or place
        seen = f"a change of Sidekiq's fetcher is never called ({patch})"
        cure = f"take it out, or accept the loss by {SETTING}={name}"
        return Fare(name, Verdict.LOST, seen, cure, refuses=True)
    seen = f"a change of a part of Sidekiq that the sidecar does not have ({patch})"
    cure = "use a lifecycle hook (config.on), which the sidecar fires"
    if place.startswith("Sidekiq::Scheduled::"):
        cure = "use client middleware: each due job passes it on its way to its queue"
    return Fare(module or place, Verdict.LOST, seen, cure)
