"""Checks of limits: key paths that match nothing, limits out of reach, wrong limits of jobs."""

from __future__ import annotations

from collections.abc import Iterator

from bridge.cli.doctor.finding import Check, Finding, hint, warning
from bridge.cli.doctor.site import Site
from bridge.limits import declaration
from bridge.limits.declaration import Limit
from bridge.limits.declarers import Declarers
from bridge.sidekiq.payload.options import LIMIT


def key_paths(site: Site) -> Iterator[Finding]:
    """A path that no job of the limit has: all its jobs would count together."""
    for limit in _limits(site):
        path = limit.key
        if path is None:
            continue
        jobs = [
            entry.job
            for entry in site.sample
            if limit.covers(entry.job.native_class, entry.job.queue or "default")
        ]
        if jobs and all(path.key(job) is None for job in jobs):
            seen = f"limit {limit.name}: none of {len(jobs)} jobs has anything at {path.text}"
            cure = "correct its key: args.N, args.N.name, cattr.name, or a field of the payload"
            yield warning("limit-key", f"{seen}, so they count together", cure)


def reach(site: Site) -> Iterator[Finding]:
    """A limit of a queue that no worker serves, or one above all slots of the fleet."""
    if not site.workers:
        return
    served = {name for row in site.workers for name in row.queues}
    slots = sum(row.concurrency for row in site.workers)
    for limit in _limits(site):
        if limit.queue is not None and limit.queue not in served:
            seen = f"limit {limit.name}: no worker serves the queue {limit.queue}"
            yield warning("limit-unreached", seen, "correct the queue of the limit, or serve it with -Q")
        elif limit.key is None and (limit.concurrency or 0) > slots:
            seen = f"limit {limit.name}: {limit.concurrency} jobs at once, and all workers have {slots} slots"
            yield hint("limit-unreached", seen, "lower it, or start more workers")


def own_limits(site: Site) -> Iterator[Finding]:
    """A wrong ``bridge_limit`` of a payload costs its job nothing, and limits nothing."""
    seen: set[str | None] = set()
    for entry in site.sample:
        own = entry.job.fields.get(LIMIT)
        name = entry.job.native_class
        if own is None or name in seen:
            continue
        seen.add(name)
        for one in own if isinstance(own, list) else [own]:
            try:
                declaration.own_limit(one, name or "")
            except ValueError as error:
                said = f"{name} runs without its own limit: {error}"
                yield warning("limit-wrong", said, "correct its sidekiq_options bridge_limit")


def _limits(site: Site) -> list[Limit]:
    """Those of the settings here, and those that living processes declare."""
    found = {limit.name: limit for limit in site.settings.limits}
    for limit in Declarers(site.client).limits():
        found.setdefault(limit.name, limit)
    return list(found.values())


CHECKS: tuple[Check, ...] = (key_paths, reach, own_limits)
