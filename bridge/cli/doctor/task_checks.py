"""Checks whether jobs run in Python or in Ruby: names of native tasks, and Ruby jobs without a sidecar."""

from __future__ import annotations

from collections.abc import Iterator

from bridge.cli.doctor.finding import Check, Finding, error, warning
from bridge.cli.doctor.site import Site
from bridge.monitoring import native_names
from bridge.moves.store import MoveStore
from bridge.sidekiq import keys


def near_names(site: Site) -> Iterator[Finding]:
    classes = {name for entry in site.sample if (name := entry.job.native_class)}
    for near in native_names.near(classes, site.tasks or ()):
        seen = f"jobs of {near.job_class} run in Ruby, and a native task is named {near.task}"
        cure = f'@app.task(name="{near.job_class}"), if Python should run them'
        yield warning("near-name", seen, cure)


def ruby_waits(site: Site) -> Iterator[Finding]:
    """Whatever BRIDGE_SIDECAR_URL says: such jobs wait until a person starts a sidecar."""
    if any(health.ready for health in site.healths) or site.tasks is None:
        return
    waiting = [name for name in _served_by_the_bridge_alone(site) if _ruby_classes(site, name)]
    if waiting:
        classes = sorted({found for name in waiting for found in _ruby_classes(site, name)})
        seen = f"Ruby jobs wait in {', '.join(waiting)} ({_some(classes)}), and no sidecar runs them"
        yield error("ruby-jobs-wait", seen, f"start bin/sidecar, or correct {site.said('sidecar_url')}")


def moves(site: Site) -> Iterator[Finding]:
    """Moves that a person should look at."""
    native = {name for row in site.workers for name in row.python}
    for move in MoveStore(site.client).all().values():
        name = move.job_class
        if move.is_back and move.reason:
            seen = f"the guard took {name} back to Ruby: {move.reason}"
            yield warning("move-taken-back", seen, f"correct the task, then bridge move {name} --percent 5")
        elif move.percent and name not in native:
            seen = f"{name} moves to Python, and no running worker has its task: all its jobs run in Ruby"
            yield warning(
                "move-without-task", seen, f"start a worker with the task, or bridge move {name} --back"
            )


def _served_by_the_bridge_alone(site: Site) -> list[str]:
    ours = {name for row in site.workers for name in row.queues}
    theirs = {name for row in site.rubies if not row.quiet for name in row.queues}
    return sorted(ours - theirs - {row.name for row in site.queues if row.paused})


def _ruby_classes(site: Site, queue: str) -> set[str]:
    key = keys.queue(queue)
    names = {str(entry.job.native_class) for entry in site.sample if entry.place.key == key}
    return names - set(site.tasks or ())


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more classes" if len(names) > 3 else "")


CHECKS: tuple[Check, ...] = (near_names, ruby_waits, moves)
