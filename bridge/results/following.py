"""The jobs that follow a job: Celery's ``link``, ``link_error`` and ``chain``, pushed by its settlement.

A payload carries them in the field ``bridge_next``, an object of three lists of steps: ``link`` (after
success), ``error`` (after death) and ``chain`` (after success, one after the other). A step is an object::

    {"class": "StoreJob", "args": [1], "queue": "low", "jid": "...", "options": {"retry": 3},
     "immutable": false, "countdown": 5, "at": null, "errback": false, "next": {...}}

A step that is not immutable gets the result of the job before it as its first argument; a step of ``error``
gets the jid of the job that died. ``errback`` marks a Python handler of Celery's form (request, exception,
traceback).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from bridge.results.encoding import value_of
from bridge.results.record import DEAD, DONE
from bridge.results.tracking import NEXT_FIELD, told
from bridge.sidekiq import keys
from bridge.sidekiq.outcome.decision import Decision, Done, GiveBack
from bridge.sidekiq.payload import new_job
from bridge.sidekiq.payload.job import SidekiqJob
from bridge.sidekiq.payload.timestamps import Timestamps
from bridge.sidekiq.store.effects import Effect

logger = logging.getLogger(__name__)

FIELD = NEXT_FIELD
#: Of a step that is a group or chord: its steps, which begin at once. ``batches`` has those of its chords.
MANY = "many"
#: Field of a job of a batch.
BATCH_FIELD = "bridge_batch"
#: Class of the error of the jobs after one that raised Celery's ``Ignore``.
IGNORED_CLASS = "Bridge::Ignored"
#: The settlement of an orphaned job has buried it.
_BURIED = "2"

Steps = Sequence[Mapping[str, Any]]


class Following:
    """The source of effects. ``timestamps`` are those of the Sidekiq that the worker works beside."""

    def __init__(self, timestamps: Callable[[], Timestamps], now: Callable[[], float] = time.time) -> None:
        self._timestamps = timestamps
        self._now = now

    def effects(
        self, job: SidekiqJob, decision: Decision, identity: str = "", token: int = 0
    ) -> tuple[Effect, ...]:
        """The effects of this end. Asked for each job that ends: one lookup where nothing follows."""
        following = job.fields.get(FIELD)
        if following is None:
            return ()
        try:
            return tuple(self._effects(job, decision, following))
        except Exception as error:  # any client may write the field: it must not stop the settlement
            logger.error("jid=%s: the field %s cannot be read: %r", job.jid, FIELD, error)
            return ()

    def _effects(self, job: SidekiqJob, decision: Decision, following: Mapping[str, Any]) -> Iterator[Effect]:
        status, fields = told(job, decision)
        chain = following.get("chain") or []
        if isinstance(decision, Done) and decision.ignored:
            why = f"{job.native_class} (jid={job.jid}) raised Ignore: the jobs after it do not run"
            ended = {"error_class": IGNORED_CLASS, "error_message": why}
            yield from _broken([*_followers([*(following.get("link") or []), *chain])], "", ended)
            return
        when = _BURIED if isinstance(decision, GiveBack) and decision.unknown_outcome else ""
        if status == DONE:
            result = decision.result if isinstance(decision, Done) else None
            steps = [*(following.get("link") or []), *_begun(chain)]
            if result is None or result.json or all(step.get("immutable") for step in _flat(steps)):
                yield from self._begin(steps, None if result is None or not result.json else value_of(result))
                return
            why = f"the result of jid={job.jid} cannot be passed on: {result.lost}"
            logger.error("jid=%s: what follows it is not run: %s", job.jid, why)
            fields = {"error_class": "Bridge::ResultLost", "error_message": why}
        elif status != DEAD:
            return
        if errors := following.get("error") or []:
            yield self._push([_handler(step, job, fields) for step in errors], when, job.jid)
        yield from _broken([*_followers([*(following.get("link") or []), *chain])], when, fields)

    def _begin(self, steps: Steps, value: Any) -> Iterator[Effect]:
        for step in steps:
            yield from (opening(batch) for batch in step.get("batches") or ())
        if started := _flat(steps):
            yield self._push(started, "", value)

    def _push(self, steps: Steps, when: str, first: Any) -> Effect:
        now = self._now()
        args: list[Any] = [when]
        for step in steps:
            at = step.get("at") or (now + step["countdown"] if step.get("countdown") else None)
            args += ["" if at is None else at, self._payload(step, now, first, scheduled=at is not None)]
        queues = (keys.queue(str(step["queue"])) for step in steps)
        return Effect("link_push", (keys.QUEUES, keys.SCHEDULE, *queues), tuple(args))

    def _payload(self, step: Mapping[str, Any], now: float, first: Any, *, scheduled: bool) -> bytes:
        given = list(step.get("args") or [])
        args = given if step.get("immutable") else [first, *given]
        options = dict(step.get("options") or {})
        if step.get("next"):
            options[FIELD] = step["next"]
        name, queue, jid = str(step["class"]), str(step["queue"]), str(step["jid"])
        stamps = self._timestamps()
        return new_job.payload(name, args, queue, jid, now, stamps, options, scheduled=scheduled)


def _broken(followers: Steps, when: str, fields: Mapping[str, Any]) -> Iterator[Effect]:
    """Tell those who wait for these jobs, and the chords that wait for one, that they will not run."""
    if not followers:
        return
    names = tuple(keys.result(str(step["jid"])) for step in followers)
    yield Effect("result_broken", names, (when, time.time(), *_error(fields)))
    for step in followers:
        if (bid := (step.get("options") or {}).get(BATCH_FIELD)) is not None:
            args = (bid, str(step["jid"]), "orphan" if when else "dead")
            yield Effect("batch_job", (keys.batch(bid), keys.batch_jobs(bid)), args)


def _begun(chain: Steps) -> Steps:
    """The first step of a chain, with the rest of it."""
    if not chain:
        return []
    first, *rest = chain
    return [{**first, "next": {**(first.get("next") or {}), "chain": rest}} if rest else first]


def _handler(step: Mapping[str, Any], job: SidekiqJob, fields: Mapping[str, Any]) -> Mapping[str, Any]:
    """A handler of Celery's form learns of the job and its error; any other one gets the jid."""
    if not step.get("errback"):
        return step
    kind, message = _error(fields)
    job.read_whole()
    failed = {
        "id": job.jid,
        "task": job.native_class,
        "args": job.args,
        "error_class": kind,
        "error_message": message,
    }
    return {**step, "immutable": True, "args": [*step["args"], failed]}


def _error(fields: Mapping[str, Any]) -> tuple[str, str]:
    return str(fields.get("error_class") or ""), str(fields.get("error_message") or "")


def _flat(steps: Steps) -> Steps:
    """The jobs that begin: a group is all of its own."""
    return [each for step in steps for each in step.get(MANY, [step])]


def _followers(steps: Steps) -> Iterator[Mapping[str, Any]]:
    """All jobs that will not run, those that follow them too. The body of a chord is known by its jids."""
    for step in _flat(steps):
        yield step
        after = step.get("next") or {}
        yield from _followers([*(after.get("link") or []), *(after.get("chain") or [])])
    for step in steps:
        for batch in step.get("batches") or ():
            yield from ({"jid": jid} for jid in str(batch["fields"].get("chord", "")).split())


def opening(batch: Mapping[str, Any]) -> Effect:
    """The effect that opens the batch of a chord: its jobs are pushed beside it."""
    bid, fields, jobs = str(batch["bid"]), batch["fields"], batch["jobs"]
    names = (
        *(keys.batch(bid), keys.batch_jobs(bid), keys.BATCHES, keys.batch_push(bid)),
        *(keys.QUEUES, keys.SCHEDULE),
    )
    pairs = [part for pair in fields.items() for part in pair]
    members = [part for jid in jobs for part in (jid, "+", "")]
    args = (bid, 1, "open", 1, "", keys.BATCH_TTL_SECONDS, len(pairs), *pairs, *members)
    return Effect("batch_push", names, args)
