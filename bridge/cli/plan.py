"""``bridge move CLASS --plan``: names what is in the way of a move, and writes a skeleton."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import click
from rich.text import Text

from bridge import errors
from bridge.cli import output, sidecars
from bridge.cli.parts import Parts
from bridge.moves import skeleton, values
from bridge.moves.signature import Arguments, Parameter, signature
from bridge.sidecar import class_description, gems
from bridge.sidecar.class_description import ClassReply
from bridge.sidecar.gems import Verdict
from bridge.sidekiq.api.entries import Place
from bridge.sidekiq.api.processes import ProcessRow
from bridge.sidekiq.payload.job import SidekiqJob

#: Options that Sidekiq itself knows, and a native job keeps.
_KEPT = frozenset([*skeleton.OPTIONS, "pool", "wrapped", "expires_in", "bridge_track", "bridge_limit"])
_MIDDLEWARE = "write @app.task(..., ruby_middleware=True): the Python code then runs inside it"


@dataclass(frozen=True, slots=True)
class Obstacle:
    """A difference between both sides, and the advice for it."""

    subject: str
    seen: str
    cure: str


@dataclass
class Plan:
    """The plan of one class."""

    job_class: str
    kind: str
    """``job``, ``active_job``, ``unknown``, ``refused``; or ``unasked``, where no sidecar answers."""
    jobs_read: int
    obstacles: list[Obstacle] = field(default_factory=list)
    skeleton: str = ""


def make(parts: Parts, job_class: str, most: int) -> Plan:
    """Ask Redis and a sidecar. ``most``: payloads that are read of each place."""
    samples = list(_samples(parts, job_class, most))
    jobs = [job for job, _ in samples]
    reply, problem = _ask(parts, job_class)
    plan = Plan(job_class, reply.kind if reply is not None else "unasked", len(jobs))
    if reply is None:
        plan.obstacles.append(Obstacle("sidecar", problem, "start the sidecar: it knows the Ruby class"))
    else:
        plan.obstacles += [*_of_class(job_class, reply), *_of_gems(parts, job_class)]
    arguments = [_arguments(job) for job in jobs]
    parameters = signature(arguments, reply.parameters if reply is not None else ())
    plan.obstacles += [
        *_of_payloads(jobs, arguments, parameters),
        *_of_queues(parts, job_class, samples, reply),
    ]
    plan.skeleton = _skeleton(job_class, parameters, reply, jobs)
    return plan


def show(plan: Plan, as_json: bool) -> None:
    """Print it."""
    if as_json:
        output.print_json(plan)
        return
    console = output.console()
    for each in plan.obstacles:
        console.print(Text(f"{each.subject}: {each.seen}"))
        console.print(Text(f"        -> {each.cure}"))
    if not plan.obstacles:
        console.print("nothing is in the way")
    console.print(Text(f"\nfrom the arguments of {output.count(plan.jobs_read, 'job')}:\n"))
    click.echo(plan.skeleton)


# -- facts


def _samples(parts: Parts, job_class: str, most: int) -> Iterator[tuple[SidekiqJob, Place]]:
    for place in parts.entries.places():
        try:
            for entry in itertools.islice(parts.entries.in_order(place), most):
                if entry.job.native_class == job_class:
                    yield entry.job, place
        except errors.StoreUnavailable:
            raise
        except errors.StoreError:  # a key of a wrong type: `doctor` reports it
            continue


def _ask(parts: Parts, job_class: str) -> tuple[ClassReply | None, str]:
    if not parts.settings.has_sidecar:
        return None, "no sidecar is configured, so the Ruby class was not read"
    try:
        return class_description.describe(parts.sidecar, job_class), ""
    except errors.SidecarError as error:
        return None, f"the Ruby class was not read: {error}"


def _arguments(job: SidekiqJob) -> Arguments:
    args, kwargs = job.native_arguments()
    return args, kwargs


# -- the Ruby class


def _of_class(job_class: str, reply: ClassReply) -> Iterator[Obstacle]:
    if reply.kind == "unknown":
        yield Obstacle("class", f"the app has no job class {job_class}", "write its whole Ruby name")
    if reply.kind == "refused":
        yield Obstacle("class", "the sidecar's list of allowed classes leaves it out", "add it to --allow")
    yield from _of_rescues(reply)
    yield from _of_callbacks(reply)
    if "sidekiq_retry_in" in reply.hooks:
        yield Obstacle(
            "sidekiq_retry_in", "Python does not ask it", "self.retry(exc=error, countdown=seconds)"
        )
    if "sidekiq_retries_exhausted" in reply.hooks:
        seen = "it runs in Ruby when a native job dies"
        yield Obstacle("sidekiq_retries_exhausted", seen, "keep a sidecar, or write it in the task")
    if reply.iterable:
        yield Obstacle(
            "checkpoints", "a native job has none, and starts again after a stop", "keep the cursor yourself"
        )
    if reply.current_attributes:
        seen = f"Python does not set {', '.join(reply.current_attributes)}"
        yield Obstacle("CurrentAttributes", seen, f"read them from the arguments, or {_MIDDLEWARE}")
    if reply.server_middleware:
        seen = f"it does not run around a native task: {', '.join(reply.server_middleware)}"
        yield Obstacle("server middleware", seen, f"where a lock, a batch or a tenant matters, {_MIDDLEWARE}")
    if reply.modules:
        seen = f"the class includes {', '.join(reply.modules[:5])}"
        yield Obstacle("modules", seen, "see what they do around perform")
    yield from _of_options(reply)


def _of_rescues(reply: ClassReply) -> Iterator[Obstacle]:
    cures = {
        "retry_on": "raise self.retry(exc=error, countdown=seconds)",
        "discard_on": "raise celery.exceptions.Ignore()",
        "rescue_from": "try and except",
    }
    for name, cure in cures.items():
        if found := getattr(reply, name):
            yield Obstacle(name, f"Python ignores it: {', '.join(found)}", cure)


def _of_callbacks(reply: ClassReply) -> Iterator[Obstacle]:
    around = [name for name in reply.callbacks if "_perform" in name]
    if around:
        yield Obstacle("callbacks", f"they do not run: {', '.join(around)}", "call what they did")
    enqueue = [name for name in reply.callbacks if "_enqueue" in name]
    if enqueue:
        seen = f"they run when Rails pushes, and not when Python does: {', '.join(enqueue)}"
        yield Obstacle("callbacks", seen, "push with ruby_client=True")


def _of_options(reply: ClassReply) -> Iterator[Obstacle]:
    if other := sorted(reply.options.keys() - _KEPT):
        seen = f"a gem reads these options, in middleware: {', '.join(other)}"
        yield Obstacle("options", seen, _MIDDLEWARE)


def _of_gems(parts: Parts, job_class: str) -> Iterator[Obstacle]:
    for health in sidecars.healths(parts):
        for fare in gems.fares(health, [job_class]):
            if fare.verdict is not Verdict.WORKS:
                yield Obstacle(fare.name, fare.seen, f"{fare.cure} ({gems.PAGE})")


# -- the payloads, and who takes them


def _of_payloads(
    jobs: Sequence[SidekiqJob], arguments: Sequence[Arguments], parameters: Sequence[Parameter]
) -> Iterator[Obstacle]:
    if not jobs:
        yield Obstacle("arguments", "no job of this class is in Redis", "check the skeleton by hand")
    for subject, seen, cure in values.surprises(arguments, parameters):
        yield Obstacle(subject, seen, cure)
    if any("cattr" in job.fields for job in jobs):
        seen = "the payloads carry Rails' current attributes in cattr"
        yield Obstacle("CurrentAttributes", seen, _MIDDLEWARE)
    if any("bid" in job.fields for job in jobs):
        yield Obstacle("batch", "jobs of this class belong to batches of Sidekiq Pro", _MIDDLEWARE)


def _of_queues(
    parts: Parts,
    job_class: str,
    samples: Sequence[tuple[SidekiqJob, Place]],
    reply: ClassReply | None,
) -> Iterator[Obstacle]:
    queues = {str(job.queue) for job, _ in samples if job.queue}
    if reply is not None and isinstance(named := reply.options.get("queue"), str):
        queues.add(named)
    rows = [row for row in parts.processes.all() if not row.quiet]
    for queue in sorted(queues):
        readers = [row for row in rows if queue in row.queues]
        yield from _of_readers(queue, job_class, readers)


def _of_readers(queue: str, job_class: str, readers: Sequence[ProcessRow]) -> Iterator[Obstacle]:
    rubies = [row.identity for row in readers if not row.is_bridge]
    if rubies:
        seen = f"Sidekiq processes read it too, and run the class in Ruby: {', '.join(rubies[:3])}"
        yield Obstacle(f"queue {queue}", seen, "stop them at 100 %, or give the class a queue of its own")
    without = [row.identity for row in readers if row.is_bridge and job_class not in row.python]
    if without:
        seen = f"workers without the native task read it, and run the class in Ruby: {', '.join(without[:3])}"
        yield Obstacle(f"queue {queue}", seen, "start them with the task")
    if not readers:
        yield Obstacle(f"queue {queue}", "no process reads it", f"start a worker with -Q {queue}")


def _skeleton(
    job_class: str, parameters: list[Parameter], reply: ClassReply | None, jobs: Sequence[SidekiqJob]
) -> str:
    if reply is None or reply.kind not in ("job", "active_job"):
        options: dict[str, Any] = {"queue": next((job.queue for job in jobs if job.queue), None)}
        return skeleton.skeleton(job_class, parameters, options)
    todo = [
        f"{name} {', '.join(found)}"
        for name in ("retry_on", "discard_on", "rescue_from", "callbacks")
        if (found := getattr(reply, name))
    ]
    return skeleton.skeleton(job_class, parameters, reply.options, place=reply.place, todo=todo)
