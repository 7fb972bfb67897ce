"""Processes, queues, leases: who serves what, and who holds what."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bridge.cli import output, spans
from bridge.cli.doctor.finding import Check, Finding, error, hint, warning
from bridge.cli.doctor.site import Site
from bridge.redis.outages import outages
from bridge.settings import sources
from bridge.sidekiq import keys
from bridge.sidekiq.api.foreign_lists import ForeignLists
from bridge.sidekiq.store.claims import ENTRY_VERSION, format_of

LATE_SECONDS = 30.0
LONG_WAIT_SECONDS = 300.0
SUPPORTED = ((6, 4), (9, 0))
#: Keys that are looked at for those of a namespace.
SCANNED = 20_000


def workers(site: Site) -> Iterator[Finding]:
    if not site.workers:
        url = site.said("redis_url")
        cure = f"start `celery -A bridge worker`, with the same {url}; look at its log"
        yield error("no-worker", "no worker of the bridge is registered on this Redis", cure)
    for row in site.processes:
        if site.now_ms / 1000 - row.beat_at > LATE_SECONDS:
            late = spans.readable(site.now_ms / 1000 - row.beat_at)
            cure = "it hangs, was killed or cannot reach Redis: its log; `bridge recover --dry-run`"
            yield warning("late-heartbeat", f"{row.identity} said nothing for {late}", cure)
    for row in site.workers:
        if row.quiet:
            yield warning(
                "quiet-worker",
                f"{row.identity} is quiet: it takes no jobs",
                "restart it, when that was not meant",
            )


def queues(site: Site) -> Iterator[Finding]:
    for row in site.queues:
        serving = [process for process in site.processes if row.name in process.queues and not process.quiet]
        if row.size and row.paused:
            cure = f"bridge resume {row.name}"
            yield warning(
                "paused-queue",
                f"queue {row.name} is paused, with {output.count(row.size, 'job')} in it",
                cure,
            )
        elif row.size and not serving:
            where = site.said("queues")
            naming = f"name it with -Q or in {where}"
            if (spelled := sources.spelled(row.name)) != row.name:
                naming = f"add it as BRIDGE_QUEUES={spelled}, or as {row.name} to the queues of a sidekiq.yml"
            cure = f"{naming}; or bridge jobs delete queue:{row.name} --all"
            yield error(
                "unserved-queue",
                f"{output.count(row.size, 'job')} in queue {row.name}, and no process serves it",
                cure,
            )
        elif row.latency_seconds > LONG_WAIT_SECONDS and row.size:
            wait = spans.readable(row.latency_seconds)
            yield warning(
                "long-wait",
                f"the next job of queue {row.name} has waited {wait}",
                "start more workers, or raise -c",
            )


def shared_queues(site: Site) -> Iterator[Finding]:
    ours = {name for row in site.workers for name in row.queues}
    theirs = {name for row in site.rubies for name in row.queues}
    if both := sorted(ours & theirs):
        seen = f"Sidekiq processes and the bridge both take from {', '.join(both)}"
        yield hint(
            "shared-queue",
            seen,
            "fine while you go over: each job runs once. Classes that only Python has want their own queue",
        )


def notices(site: Site) -> Iterator[Finding]:
    with outages():
        waiting = int(site.client.llen(keys.NOTICES))
    if waiting and not any(health.ready for health in site.healths):
        cure = "start the sidecar: a worker tells it, and death handlers and error handlers run there"
        seen = f"{output.count(waiting, 'end')} of jobs outside of Ruby wait for a sidecar that hears of them"
        yield warning("notices-wait", seen, cure)


def other_fetchers(site: Site) -> Iterator[Finding]:
    """Private lists of reliable fetchers, whose jobs no process looks for any more."""
    for one in ForeignLists(site.client).all():
        if not one.alive:
            seen = f"{output.count(one.held, 'job')} in {one.key} ({one.fetcher}), whose process is gone"
            yield error("foreign-orphans", seen, "bridge recover --dry-run, then bridge recover")


def versions(site: Site) -> Iterator[Finding]:
    found = {row.version for row in site.rubies} | {health.sidekiq_version for health in site.healths}
    numbers = {text: _numbers(text) for text in found if text[:1].isdigit()}
    for text, number in sorted(numbers.items()):
        if not SUPPORTED[0] <= number < SUPPORTED[1]:
            yield error(
                "sidekiq-version",
                f"Sidekiq {text} is in use",
                "the bridge knows 6.4 to 8.x: update one of the two",
            )
    majors = {number[0] for number in numbers.values()}
    if len(majors) > 1 and 8 in majors:
        seen = (
            f"Sidekiq {' and '.join(sorted(numbers))} work on one Redis: they write times in different units"
        )
        yield warning(
            "mixed-versions",
            seen,
            "bring them all to one version soon; BRIDGE_SIDEKIQ_VERSION says whose units to write",
        )


def leases(site: Site) -> Iterator[Finding]:
    for row in site.leases:
        if row.held and row.is_over(site.now_ms):
            seen = f"{output.count(row.held, 'job')} in the hands of {row.identity}, which is dead"
            yield error(
                "dead-hands", seen, "a living worker takes them within seconds; without one: bridge recover"
            )


def formats(site: Site) -> Iterator[Finding]:
    for row in site.leases:
        with outages():
            entries: Any = site.client.hvals(keys.inflight(row.identity)) if row.held else []
        newer = {format_of(entry) for entry in entries} - {ENTRY_VERSION.decode()}
        if newer:
            said = ", ".join(sorted(newer))
            seen = f"{row.identity} holds jobs in format {said}, which this release cannot read"
            yield error(
                "future-format", seen, "run the newer release until it has settled them, then go back"
            )


def namespace(site: Site) -> Iterator[Finding]:
    """redis-namespace puts ``name:`` before every key of Sidekiq 6."""
    if site.queues:
        return
    found: set[str] = set()
    with outages():
        for i, key in enumerate(site.client.scan_iter("*:queues", count=1000)):
            if i > SCANNED:
                break
            found.add(key.decode(errors="replace").removesuffix(":queues"))
    for name in sorted(found)[:3]:
        seen = f"Sidekiq's keys begin with {name}: (redis-namespace); the bridge looks for them without"
        yield error(
            "namespace", seen, "give Sidekiq a database or Redis of its own and take redis-namespace away"
        )


def capsules(site: Site) -> Iterator[Finding]:
    """A worker keeps the capsules of its BRIDGE_CONFIG, and those of the app's initializers."""
    ours = {name for row in site.workers for name in row.queues}
    kept = bool(site.settings.file.capsules) or any(
        queue.concurrency for health in site.healths for queue in health.queues
    )
    for row in site.rubies:
        if row.capsules > 1 and ours & set(row.queues) and not kept:
            seen = f"{row.identity} has {row.capsules} capsules, and no worker of the bridge knows them"
            yield warning("capsules", seen, "name the app's config/sidekiq.yml in BRIDGE_CONFIG")


def _numbers(version: str) -> tuple[int, int]:
    parts = [int(part) for part in version.split(".")[:2] if part.isdigit()]
    major, minor = [*parts, 0, 0][:2]
    return major, minor


CHECKS: tuple[Check, ...] = (
    workers, queues, shared_queues, notices, other_fetchers, versions, leases, formats, namespace, capsules,
)  # fmt: skip
